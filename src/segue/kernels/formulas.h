/* Formulas of the loops, written so that the compiler makes vectors of them; the order of operations is as it stands. */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The root mean square above which a row is clipped, as in segue.model.blocks. */
#define LONGEST 8.0f

#define EXPORT __attribute__((visibility("default")))
/* Logits of rows that are no class lie below this. */
static const float UNRANKED = -1e30f;


/* Of a number that is not one, that. */
static inline float larger(float least, float x) { return least > x ? least : x; }
static inline float smaller(float most, float x) { return most < x ? most : x; }
static inline float power_of_two(float n) {
  uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return power;
}
/* What is left of x after n times log 2, and exp of it less 1 as a polynomial (Cephes). */
static inline float remainder_of(float x, float n) { return x - n * 0.693359375f + n * 2.12194440e-4f; }
static inline float small_expm1(float r) {
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * r * r + r;
}
/* exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1): exact near 0, too. */
static inline float expm1_of(float x) {
  x = smaller(88.0f, larger(-87.0f, x));
  float n = rintf(x * 1.44269504f), power = power_of_two(n);
  return power * small_expm1(remainder_of(x, n)) + (power - 1.0f);
}
/* exp, exact relative to itself, and exactly 0 far below. */
static inline float exp_of(float x) {
  float clipped = smaller(88.0f, larger(-87.0f, x)), n = rintf(clipped * 1.44269504f);
  float found = power_of_two(n) * (small_expm1(remainder_of(clipped, n)) + 1.0f);
  return x < -87.0f ? 0.0f : found;
}
static inline float sigmoid_of(float x) { return 1.0f / (1.0f + exp_of(-x)); }
static inline float tanh_of(float x) {
  float e = expm1_of(smaller(40.0f, larger(-40.0f, 2.0f * x)));
  return e / (e + 2.0f);
}

/* log of a number above 0 that is not subnormal (Cephes). */
static inline float log_of(float x) {
  int32_t bits, part;
  memcpy(&bits, &x, sizeof bits);
  part = (bits & 0x007fffff) | 0x3f000000;
  float m, n = (float)((bits >> 23) - 126);
  memcpy(&m, &part, sizeof m);
  int low = m < 0.70710678f;
  n = low ? n - 1.0f : n;
  m = low ? m + m - 1.0f : m - 1.0f;
  float z = m * m, p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  p = p * m * z - 2.12194440e-4f * n - 0.5f * z;
  return m + p + 0.693359375f * n;
}

/* What is no number may be passed over here; it stays in the line. */
static float largest(const float* line, long width) {
  float top = UNRANKED;
#pragma omp simd reduction(max : top)
  for (long i = 0; i < width; i++) top = line[i] > top ? line[i] : top;
  return top;
}
