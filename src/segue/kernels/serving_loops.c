/* Loops of the server, called through ctypes: a step of the network for a few users, and the work between scores and
   lists.

   Knows: a block with its constants put together, the blend with transition counts, the best places of lines of
   scores, the rank of a place, the sum that a softmax divides by.
   Does not know: Python, ids, exclusions (-infinity stands for these). All numbers are float32, line after line. Every
   function computes what its pure twin in `serving_loops.py`, `model/transitions.py` or
   `recommend/fused_inference.py` computes. */

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

/* The rank of one place of each line, ties against it, without the first place; and log(sum(exp(line))), to which
   -infinity adds nothing. */
EXPORT void segue_ranks(const float* scores, int64_t lines, int64_t size, const int64_t* columns, int64_t* ranks,
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

/* ---- the blend of a network's scores with transition counts (`model/transitions.py`) ---- */

typedef struct {
  const int64_t* offsets; /* of pairs, by first item */
  const int32_t* rows;    /* the second item of each pair */
  const float *shares, *popularity, *decay, *habit_decay;
  int64_t size, counted, reach, recent;          /* rows, rows that were counted, numbers of last items */
  float weight, smoothing, habit, scale, rarest; /* the last: the log for a row that was not counted */
} Transitions;

/* scores[line, width] become scale * (scores + weight * log(share + smoothing * popularity)); recent[line, recent] are
   the last items, the newest last; `room` is as long as `size`. */
EXPORT void segue_blend(const Transitions* counts, const int32_t* recent, int64_t lines, float* scores, int64_t width,
                        float* restrict room) {
  int64_t size = counts->size;
  const float* restrict popularity = counts->popularity;
  for (int64_t l = 0; l < lines; l++, recent += counts->recent, scores += width) {
    float total = 0.0f, own = 0.0f;
    memset(room, 0, (size_t)size * sizeof(float));
    for (int64_t j = 0; j < counts->reach; j++) {
      int32_t row = recent[counts->recent - counts->reach + j];
      if (row <= 0 || row >= size) continue;
      float decay = counts->decay[j];
      for (int64_t p = counts->offsets[row]; p < counts->offsets[row + 1]; p++)
        room[counts->rows[p]] += decay * counts->shares[p];
    }
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < counts->counted; i++) total += room[i];
    float part = (1.0f - counts->habit) / larger(1.17549435e-38f, total);
    for (int64_t i = 0; i < size; i++) room[i] *= part;
    if (counts->habit > 0.0f) {
      for (int64_t j = 0; j < counts->recent; j++)
        if (recent[j] > 0 && recent[j] < size) own += counts->habit_decay[j];
      for (int64_t j = 0; j < counts->recent; j++)
        if (recent[j] > 0 && recent[j] < size) room[recent[j]] += counts->habit * counts->habit_decay[j] / own;
    }
    for (int64_t i = 0; i < size; i++)
      scores[i] = (scores[i] + counts->weight * log_of(room[i] + counts->smoothing * popularity[i])) * counts->scale;
    for (int64_t i = size; i < width; i++) scores[i] = (scores[i] + counts->rarest) * counts->scale;
  }
}

/* ---- one event of a few users through a block whose constants are put together (`recommend/fused_inference.py`) ---- */

typedef float Vector __attribute__((vector_size(64), aligned(4), may_alias));
enum { USERS = 8, COLUMNS = 32 };

typedef struct {
  const float *w_in, *now, *past, *bias, *w_gates, *b_gates, *decay, *w_out, *w_up, *w_down;
} Block;

/* Lines of x times COLUMNS columns of w, of which `some` are there; LINES is known when this is compiled. */
static inline __attribute__((always_inline)) void panel(const int lines, const float* x, int64_t inside, const float* w,
                                                        int64_t some, float* y, int64_t width, int add) {
  Vector left[USERS] = {{0.0f}}, right[USERS] = {{0.0f}};
  float sums[COLUMNS];
  for (int64_t k = 0; k < inside; k++, w += COLUMNS) {
    const Vector* line = (const Vector*)w;
    for (int u = 0; u < lines; u++) {
      left[u] += x[u * inside + k] * line[0];
      right[u] += x[u * inside + k] * line[1];
    }
  }
  for (int u = 0; u < lines; u++, y += width) {
    *(Vector*)sums = left[u];
    *(Vector*)(sums + COLUMNS / 2) = right[u];
    for (int64_t c = 0; c < some; c++) y[c] = add ? y[c] + sums[c] : sums[c];
  }
}

/* y = x w, and y + x w where `add` is said; x is [users, inside], y [users, width]. w lies in panels of COLUMNS columns,
   [inside, COLUMNS] each, the last filled up with 0; each is used for all users while it is at hand. */
static void multiplied(const float* x, int64_t users, int64_t inside, const float* w, int64_t width, float* y, int add) {
  for (int64_t begin = 0; begin < width; begin += COLUMNS) {
    int64_t some = width - begin < COLUMNS ? width - begin : COLUMNS, u = 0;
    const float* own = w + begin * inside;
    for (; u + USERS <= users; u += USERS) panel(USERS, x + u * inside, inside, own, some, y + u * width + begin, width, add);
    for (; u + 4 <= users; u += 4) panel(4, x + u * inside, inside, own, some, y + u * width + begin, width, add);
    for (; u < users; u++) panel(1, x + u * inside, inside, own, some, y + u * width + begin, width, add);
  }
}

/* What a part multiplies a row by before it reads it, but for its scale. */
enum { AS_IT_IS, RMS_NORM, CLIPPED };

static float row_factor(const float* x, int64_t d, int64_t norm) {
  float squares = 0.0f;
  for (int64_t i = 0; i < d; i++) squares += x[i] * x[i];
  squares /= (float)d;
  if (norm == RMS_NORM) return 1.0f / sqrtf(squares + 1e-6f);
  return squares <= LONGEST * LONGEST ? 1.0f : LONGEST / sqrtf(squares);
}

static void scaled(float* y, const float* x, int64_t users, int64_t width, int64_t d, int64_t norm) {
  if (norm == AS_IT_IS) return;
  for (int64_t u = 0; u < users; u++) {
    float scale = row_factor(x + u * d, d, norm);
    for (int64_t i = 0; i < width; i++) y[u * width + i] *= scale;
  }
}

/* The block: `before` and `after` are lines `stride` apart of what came before, `past` numbers with the newest first,
   and the state; x[user, d] is read and written; 0 where there is no memory to work in. */
EXPORT int segue_step(const Block* w, const float* before, float* after, int64_t stride, float* x, int64_t users,
                      int64_t d, int64_t past, int64_t inside, int64_t norm) {
  int64_t widest = inside > d ? inside : d;
  float* both = malloc((size_t)(users * (3 * widest + 2 * d)) * sizeof(float));
  if (!both) return 0;
  float* line = both + users * 2 * widest;
  multiplied(x, users, d, w->w_in, 2 * d, both, 0);
  scaled(both, x, users, 2 * d, d, norm);
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
  float* opened = line + users * d;
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
  scaled(both, x, users, 2 * inside, d, norm);
  for (int64_t u = 0; u < users; u++) {
    const float *a = both + 2 * u * inside, *b = a + inside;
    float* silu = line + u * inside;
    for (int64_t i = 0; i < inside; i++) silu[i] = (tanh_of(a[i]) + 1.0f) * a[i] * b[i];
  }
  multiplied(line, users, inside, w->w_down, d, x, 1);
  free(both);
  return 1;
}
