/* Loops of the server, called through ctypes: a step of the network for a few users, and what lies between scores and
   a list.

   Knows: a block with its constants put together; the best places of lines of scores, the rank of a place, the sum
   that a softmax divides by.
   Does not know: Python, ids, what is hidden (that is -infinity before it comes here). All numbers are float32, line
   after line. Every function computes what its pure twin in `lists.py` or `recommend/folded.py` computes. */

#include <stdlib.h>

#include "formulas.h"

enum { BLOCK = 64 };

/* The `count` highest scores of each line and their places, best first, of equals the first place; -infinity is left
   out, and `found` says how many there are. */
EXPORT void segue_best(const float* scores, int64_t lines, int64_t size, int64_t count, int64_t* places, float* best,
                       int64_t* found) {
  for (int64_t l = 0; l < lines; l++, scores += size, places += count, best += count) {
    int64_t n = 0;
    float edge = -INFINITY; /* what a score has to be above */
    for (int64_t begin = 0; begin < size; begin += BLOCK) {
      int64_t end = begin + BLOCK < size ? begin + BLOCK : size;
      float top = -INFINITY;
#pragma omp simd reduction(max : top)
      for (int64_t i = begin; i < end; i++) top = scores[i] > top ? scores[i] : top;
      if (!(top > edge)) continue;
      for (int64_t i = begin; i < end; i++) {
        float score = scores[i];
        if (!(score > edge)) continue;
        int64_t at = n < count ? n++ : count - 1;
        for (; at > 0 && best[at - 1] < score; at--) {
          best[at] = best[at - 1];
          places[at] = places[at - 1];
        }
        best[at] = score;
        places[at] = i;
        if (n == count) edge = best[count - 1];
      }
    }
    found[l] = n;
  }
}

/* How many places of each line but the first score at least what one of them does, and log(sum(exp(line))); what is
   -infinity adds nothing. */
EXPORT void segue_foreseen(const float* scores, int64_t lines, int64_t size, const int64_t* columns, int64_t* ranks,
                           float* sums) {
  for (int64_t l = 0; l < lines; l++, scores += size) {
    float own = scores[columns[l]], top = largest(scores, (long)size), total = 0.0f;
    int32_t rank = 0;
#pragma omp simd reduction(+ : rank)
    for (int64_t i = 1; i < size; i++) rank += scores[i] >= own;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < size; i++) total += exp_of(scores[i] - top);
    ranks[l] = rank;
    sums[l] = logf(larger(1e-30f, total)) + top;
  }
}

/* ---- one event of a few users through a block whose constants are put together (`recommend/folded.py`) ---- */

enum { USERS = 4, COLUMNS = 32 };

typedef struct {
  const float *w_in, *now, *past, *bias, *w_gates, *b_gates, *decay, *w_out, *w_up, *w_down;
} Block;

/* y = x w, and y + x w where `add` is said: at most USERS lines of x, `inside` numbers each; w is [inside, width]. */
static void multiplied(const float* x, int64_t users, int64_t inside, const float* w, int64_t width, float* y, int add) {
  for (int64_t begin = 0; begin < width; begin += COLUMNS) {
    int64_t some = width - begin < COLUMNS ? width - begin : COLUMNS;
    float sums[USERS][COLUMNS] = {{0.0f}};
    if (users == USERS && some == COLUMNS) {
      for (int64_t k = 0; k < inside; k++) {
        const float* line = w + k * width + begin;
        for (int u = 0; u < USERS; u++) {
          float factor = x[u * inside + k];
          for (int c = 0; c < COLUMNS; c++) sums[u][c] += factor * line[c];
        }
      }
    } else {
      for (int64_t k = 0; k < inside; k++) {
        const float* line = w + k * width + begin;
        for (int64_t u = 0; u < users; u++) {
          float factor = x[u * inside + k];
          for (int64_t c = 0; c < some; c++) sums[u][c] += factor * line[c];
        }
      }
    }
    for (int64_t u = 0; u < users; u++)
      for (int64_t c = 0; c < some; c++) {
        float* into = y + u * width + begin + c;
        *into = add ? *into + sums[u][c] : sums[u][c];
      }
  }
}

/* What `rms_norm` multiplies by, but for its scale. */
static float inverse(const float* x, int64_t d) {
  float squares = 0.0f;
  for (int64_t i = 0; i < d; i++) squares += x[i] * x[i];
  return 1.0f / sqrtf(squares / (float)d + 1e-6f);
}

static void scaled(float* y, const float* x, int64_t users, int64_t width, int64_t d) {
  for (int64_t u = 0; u < users; u++) {
    float scale = inverse(x + u * d, d);
    for (int64_t i = 0; i < width; i++) y[u * width + i] *= scale;
  }
}

/* The block for at most USERS users: `before` and `after` are lines `stride` apart of what came before, `past` numbers
   with the newest first, and the state; x[user, d] is read and written; `both` has room for two lines of each user. */
static void step(const Block* w, const float* before, float* after, int64_t stride, float* x, int64_t users, int64_t d,
                 int64_t past, int64_t inside, int norm, float* both, float* line) {
  multiplied(x, users, d, w->w_in, 2 * d, both, 0);
  if (norm) scaled(both, x, users, 2 * d, d);
  for (int64_t u = 0; u < users; u++) {
    const float *branch = both + 2 * u * d, *old = before + u * stride;
    float *c = line + u * d, *new = after + u * stride;
    for (int64_t i = 0; i < d; i++) c[i] = branch[i] * w->now[i] + w->bias[i];
    for (int64_t begin = 0; begin < past; begin += d)
      for (int64_t i = 0; i < d; i++) c[i] += old[begin + i] * w->past[begin + i];
    if (past) {
      memcpy(new, branch, (size_t)d * sizeof(float));
      memcpy(new + d, old, (size_t)(past - d) * sizeof(float));
    }
  }
  float* opened = line + USERS * d;
  multiplied(line, users, d, w->w_gates, 2 * d, opened, 0);
  for (int64_t u = 0; u < users; u++) {
    const float *keep = opened + 2 * u * d, *enter = keep + d, *gate = both + (2 * u + 1) * d;
    const float* s = before + u * stride + past;
    float *c = line + u * d, *next = after + u * stride + past;
    for (int64_t i = 0; i < d; i++) {
      float twice = (tanh_of(keep[i] + w->b_gates[i]) + 1.0f) * w->decay[i]; /* 2 log a */
      float left = sqrtf(larger(0.25e-12f, -0.25f * expm1_of(twice)));
      float y = exp_of(0.5f * twice) * s[i] + (tanh_of(enter[i] + w->b_gates[d + i]) + 1.0f) * left * c[i];
      float g = gate[i];
      next[i] = y;
      c[i] = (tanh_of((g * g * 0.035677408136f + 0.7978845608f) * g) + 1.0f) * g * y;
    }
  }
  multiplied(line, users, d, w->w_out, d, x, 1);
  multiplied(x, users, d, w->w_up, 2 * inside, both, 0);
  if (norm) scaled(both, x, users, 2 * inside, d);
  for (int64_t u = 0; u < users; u++) {
    const float *a = both + 2 * u * inside, *b = a + inside;
    float* silu = line + u * inside;
    for (int64_t i = 0; i < inside; i++) silu[i] = (tanh_of(a[i]) + 1.0f) * a[i] * b[i];
  }
  multiplied(line, users, inside, w->w_down, d, x, 1);
}

/* The block for any number of users; 0 where there is no memory to work in. */
EXPORT int segue_step(const Block* block, const float* before, float* after, int64_t stride, float* x, int64_t users,
                      int64_t d, int64_t past, int64_t inside, int64_t norm) {
  size_t widest = (size_t)(inside > d ? inside : d);
  float* room = malloc(USERS * (2 * widest + widest + 2 * (size_t)d) * sizeof(float));
  if (!room) return 0;
  for (int64_t u = 0; u < users; u += USERS)
    step(block, before + u * stride, after + u * stride, stride, x + u * d, users - u < USERS ? users - u : USERS, d,
         past, inside, (int)norm, room, room + USERS * 2 * widest);
  free(room);
  return 1;
}
