/* Fused loops of the training, called by XLA on the processor.

   Knows: the work between two matrix products, forward and backward: the softmax, the norm, the gates, the recurrence.
   Each loop reads and writes memory once, where separate operations would do so many times.
   Does not know: JAX, products, shapes beyond the sizes of its buffers (`training_loops.py` checks them). Every handler
   computes what its pure twin in `segue.model` or `segue.training.update.losses` computes. Sums over rows are added in a
   fixed order, whatever the number of threads, so that the same seed gives the same weights.

   All buffers are float32, dense, row by row, but for int32 ids, one-byte booleans and buffers marked bfloat16. */

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "formulas.h"
#include "xla/ffi/api/c_api.h"

/* Parts that a job is cut into; fixed, so that partial sums do not depend on the machine. */
enum { PARTS = 16 };

/* ---- threads: a job's parts are claimed one by one, by the caller and by whoever is free ---- */

typedef struct {
  void (*body)(void* job, long part, long begin, long end);
  void* job;
  long count;
  atomic_long next, done;
  atomic_int holders;
} Shared;

static void work(Shared* shared) {
  long part;
  while ((part = atomic_fetch_add(&shared->next, 1)) < PARTS) {
    long begin = shared->count * part / PARTS, end = shared->count * (part + 1) / PARTS;
    if (begin < end) shared->body(shared->job, part, begin, end);
    atomic_fetch_add(&shared->done, 1);
  }
}

static void release(Shared* shared) {
  if (atomic_fetch_sub(&shared->holders, 1) == 1) free(shared);
}

static void helper(void* shared) {
  work(shared);
  release(shared);
}

/* Run body over [0, count) in PARTS parts. A helper that comes too late finds nothing to claim and touches no job. */
static void parallel(XLA_FFI_CallFrame* frame, long count, void (*body)(void*, long, long, long), void* job) {
  Shared* shared = malloc(sizeof *shared);
  if (!shared) abort();
  *shared = (Shared){.body = body, .job = job, .count = count};
  atomic_init(&shared->holders, 1);
  int64_t threads = 1;
  XLA_FFI_ThreadPool_NumThreads_Args asked = {
      .struct_size = XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, .ctx = frame->ctx, .num_threads = &threads};
  XLA_FFI_Error* error = frame->api->XLA_FFI_ThreadPool_NumThreads(&asked);
  if (error) threads = 1;
  if (threads > PARTS) threads = PARTS;
  for (int64_t i = 1; i < threads; i++) {
    atomic_fetch_add(&shared->holders, 1);
    XLA_FFI_ThreadPool_Schedule_Args task = {.struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE,
                                             .ctx = frame->ctx, .task = helper, .data = shared};
    if (frame->api->XLA_FFI_ThreadPool_Schedule(&task)) release(shared);
  }
  work(shared);
  for (long spins = 0; atomic_load(&shared->done) < PARTS; spins++)
    if (spins > 10000) sched_yield();
  release(shared);
}

/* ---- the frame: arguments, results, and the question of the version that XLA asks at first ---- */

static XLA_FFI_Buffer* input(XLA_FFI_CallFrame* frame, int i) { return frame->args.args[i]; }
static XLA_FFI_Buffer* output(XLA_FFI_CallFrame* frame, int i) { return frame->rets.rets[i]; }
#define IN(i) ((const float*)input(frame, i)->data)
#define OUT(i) ((float*)output(frame, i)->data)
static long axis(XLA_FFI_Buffer* buffer, int i) { return (long)buffer->dims[i]; }
static long last(XLA_FFI_Buffer* buffer) { return (long)buffer->dims[buffer->rank - 1]; }
static long rows_of(XLA_FFI_Buffer* buffer) {
  long rows = 1;
  for (int64_t i = 0; i + 1 < buffer->rank; i++) rows *= (long)buffer->dims[i];
  return rows;
}

static int answers_version(XLA_FFI_CallFrame* frame) {
  __typeof__(frame->extension_start) extension = frame->extension_start; /* JAX 0.12 has another name for it */
  if (!extension || extension->type != XLA_FFI_Extension_Metadata) return 0;
  XLA_FFI_Metadata* metadata = ((XLA_FFI_Metadata_Extension*)extension)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  return 1;
}

#define HANDLER(name)                                           \
  static void run_##name(XLA_FFI_CallFrame* frame);             \
  EXPORT XLA_FFI_Error* name(XLA_FFI_CallFrame* frame) {        \
    if (!answers_version(frame)) run_##name(frame);             \
    return NULL;                                                \
  }                                                             \
  static void run_##name(XLA_FFI_CallFrame* frame)

static float* partial_sums(long width) {
  float* sums = calloc((size_t)PARTS * (size_t)width, sizeof(float));
  if (!sums) abort();
  return sums;
}

static void add_up(float* total, float* sums, long width) {
  memcpy(total, sums, (size_t)width * sizeof(float));
  for (long part = 1; part < PARTS; part++)
    for (long i = 0; i < width; i++) total[i] += sums[part * width + i];
  free(sums);
}

/* ---- softmax: from logits to the gradient of the loss by the logits, in place ---- */

typedef struct {
  float *logits, *losses, *own, *sums;
  const float *offset, *weights, *goals;
  const int32_t *targets, *classes;
  const uint8_t* hidden;
  long width;
} Softmax;

static void softmax_rows(void* data, long part, long begin, long end) {
  Softmax* job = data;
  long width = job->width;
  const float* restrict offset = job->offset;
  float* restrict sums = job->sums + part * width;
  for (long row = begin; row < end; row++) {
    float* restrict line = job->logits + row * width;
    int32_t target = job->targets[row];
    float weight = job->weights[row], top, total = 0.0f, goal;
    if (!job->classes && (target < 0 || target >= width)) { /* no class: what is no number stays visible */
      memset(line, 0, (size_t)width * sizeof(float));
      job->losses[row] = NAN;
      continue;
    }
    for (long i = 0; i < width; i++) line[i] += offset[i];
    if (job->hidden) {
      const uint8_t* restrict hidden = job->hidden + row * width;
      for (long i = 0; i < width; i++) line[i] = hidden[i] ? UNRANKED : line[i];
    }
    if (job->classes) { /* a sample, made without the target */
      const int32_t* restrict classes = job->classes;
      for (long i = 0; i < width; i++) line[i] = classes[i] == target ? UNRANKED : line[i];
    }
    goal = job->classes ? job->goals[row] : line[target];
    top = larger(largest(line, width), goal);
#pragma omp simd reduction(+ : total)
    for (long i = 0; i < width; i++) {
      line[i] = exp_of(line[i] - top);
      total += line[i];
    }
    float of_goal = exp_of(goal - top);
    if (job->classes) total += of_goal;
    float scale = weight / total;
    for (long i = 0; i < width; i++) {
      line[i] *= scale;
      sums[i] += line[i];
    }
    job->losses[row] = weight * (logf(total) + top - goal);
    if (job->classes) {
      job->own[row] = weight * (of_goal / total - 1.0f);
    } else {
      line[target] -= weight;
      sums[target] -= weight;
    }
  }
}

static void softmax(XLA_FFI_CallFrame* frame, Softmax job) {
  long count = axis(input(frame, 0), 0), width = last(input(frame, 0));
  if (OUT(0) != IN(0)) memcpy(OUT(0), IN(0), (size_t)(count * width) * sizeof(float));
  job.logits = OUT(0);
  job.losses = OUT(1);
  job.offset = IN(1);
  job.targets = input(frame, 2)->data;
  job.weights = IN(3);
  if (last(input(frame, 4))) job.hidden = input(frame, 4)->data;
  job.width = width;
  job.sums = partial_sums(width);
  parallel(frame, count, softmax_rows, &job);
  add_up(OUT(2), job.sums, width);
}

/* logits [N, V], offset [V], targets [N], weights [N], hidden [N, V] or [N, 0] -> d logits [N, V], losses [N], d offset [V] */
HANDLER(segue_softmax) { softmax(frame, (Softmax){.classes = NULL}); }

/* logits [N, S], offset [S], targets [N], weights [N], hidden [N, S] or [N, 0], classes [S], goals [N]
   -> d logits [N, S], losses [N], d offset [S], d goals [N] */
HANDLER(segue_softmax_sampled) {
  softmax(frame, (Softmax){.classes = input(frame, 5)->data, .goals = IN(6), .own = OUT(3)});
}

/* ---- rows become columns, tile by tile ---- */

enum { TILE = 32 };
typedef struct {
  const float* x;
  float* y;        /* either as they are, */
  uint16_t* short_y; /* or rounded to bfloat16 */
  long rows, width;
} Turn;

/* To the nearest, and to even between two (IEEE 754); what is no number stays none. */
static inline uint16_t rounded(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  uint32_t up = bits + 0x7fffu + ((bits >> 16) & 1u);
  return (uint16_t)((x == x ? up : bits | 0x400000u) >> 16);
}

static void turn_tile(const Turn* job, long row, long rows, long column, long columns) {
  float tile[TILE][TILE];
  for (long r = 0; r < rows; r++)
    memcpy(tile[r], job->x + (row + r) * job->width + column, (size_t)columns * sizeof(float));
  for (long c = 0; c < columns; c++) {
    float* restrict y = job->y + (column + c) * job->rows + row;
    for (long r = 0; r < rows; r++) y[r] = tile[r][c];
  }
}

static void round_tile(const Turn* job, long row, long rows, long column, long columns) {
  uint16_t tile[TILE][TILE];
  for (long r = 0; r < rows; r++) {
    const float* restrict x = job->x + (row + r) * job->width + column;
    for (long c = 0; c < columns; c++) tile[r][c] = rounded(x[c]);
  }
  for (long c = 0; c < columns; c++) {
    uint16_t* restrict y = job->short_y + (column + c) * job->rows + row;
    for (long r = 0; r < rows; r++) y[r] = tile[r][c];
  }
}

static void turn_rows(void* data, long part, long begin, long end) {
  (void)part;
  Turn* job = data;
  for (long row = begin * TILE; row < end * TILE && row < job->rows; row += TILE) {
    long rows = job->rows - row < TILE ? job->rows - row : TILE;
    for (long column = 0; column < job->width; column += TILE) {
      long columns = job->width - column < TILE ? job->width - column : TILE;
      (job->y ? turn_tile : round_tile)(job, row, rows, column, columns);
    }
  }
}

static void turn(XLA_FFI_CallFrame* frame, Turn job) {
  job.x = IN(0);
  job.rows = axis(input(frame, 0), 0);
  job.width = last(input(frame, 0));
  parallel(frame, (job.rows + TILE - 1) / TILE, turn_rows, &job);
}

/* x [N, k] -> [k, N] */
HANDLER(segue_turned) { turn(frame, (Turn){.y = OUT(0)}); }

/* x [N, k] -> bfloat16 [k, N] */
HANDLER(segue_turned_rounded) { turn(frame, (Turn){.short_y = output(frame, 0)->data}); }

/* ---- what has no neighbours in time: a row of inputs to a row of outputs ---- */

typedef struct {
  const float *a, *b, *c;
  float *x, *y, *sums;
  long width;
  float longest; /* of a row before it is clipped; 0 for a norm */
} Rows;

/* What a row is multiplied by, but for its scale: `rms_norm`, or `clipped` above a length. */
static float row_factor(float squares, float longest) {
  if (longest == 0.0f) return 1.0f / sqrtf(squares + 1e-6f);
  return squares <= longest * longest ? 1.0f : longest / sqrtf(squares); /* what is no number stays none */
}

/* What the change of that factor with the mean of the squares is, as a share of it, twice and less than 0. */
static float row_pull(float squares, float longest) {
  if (longest == 0.0f) return 1.0f / (squares + 1e-6f);
  return squares <= longest * longest ? 0.0f : 1.0f / squares;
}

static void norm_rows(void* data, long part, long begin, long end) {
  (void)part;
  Rows* job = data;
  float longest = job->longest;
  long width = job->width;
  const float* restrict scale = job->b;
  for (long row = begin; row < end; row++) {
    const float* restrict x = job->a + row * width;
    float* restrict y = job->x + row * width;
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (long i = 0; i < width; i++) squares += x[i] * x[i];
    float inverse = row_factor(squares / (float)width, longest);
    for (long i = 0; i < width; i++) y[i] = x[i] * inverse * scale[i];
  }
}

static void norm(XLA_FFI_CallFrame* frame, float longest) {
  Rows job = {.a = IN(0), .b = IN(1), .x = OUT(0), .width = last(input(frame, 0)), .longest = longest};
  parallel(frame, rows_of(input(frame, 0)), norm_rows, &job);
}

/* x [..., d], scale [d] -> x / sqrt(mean(x^2) + 1e-6) * scale */
HANDLER(segue_rms_norm) { norm(frame, 0.0f); }

/* x [..., d], scale [d] -> x * min(1, LONGEST / sqrt(mean(x^2))) * scale */
HANDLER(segue_clipped) { norm(frame, LONGEST); }

static void norm_back_rows(void* data, long part, long begin, long end) {
  Rows* job = data;
  long width = job->width;
  const float* restrict scale = job->b;
  float* restrict sums = job->sums + part * width;
  float longest = job->longest;
  for (long row = begin; row < end; row++) {
    const float *restrict x = job->a + row * width, *restrict dy = job->c + row * width;
    float* restrict dx = job->x + row * width;
    float squares = 0.0f, along = 0.0f;
#pragma omp simd reduction(+ : squares, along)
    for (long i = 0; i < width; i++) {
      squares += x[i] * x[i];
      along += x[i] * dy[i] * scale[i];
    }
    float inverse = row_factor(squares / (float)width, longest);
    float pull = along * inverse * row_pull(squares / (float)width, longest) / (float)width;
    for (long i = 0; i < width; i++) {
      sums[i] += dy[i] * x[i] * inverse;
      dx[i] = dy[i] * scale[i] * inverse - x[i] * pull;
    }
  }
}

static void norm_back(XLA_FFI_CallFrame* frame, float longest) {
  long width = last(input(frame, 0));
  Rows job = {
      .a = IN(0), .b = IN(1), .c = IN(2), .x = OUT(0), .width = width, .sums = partial_sums(width), .longest = longest};
  parallel(frame, rows_of(input(frame, 0)), norm_back_rows, &job);
  add_up(OUT(1), job.sums, width);
}

/* x, scale, d y -> d x, d scale */
HANDLER(segue_rms_norm_back) { norm_back(frame, 0.0f); }

/* x, scale, d y -> d x, d scale */
HANDLER(segue_clipped_back) { norm_back(frame, LONGEST); }

static void swiglu_rows(void* data, long part, long begin, long end) {
  (void)part;
  Rows* job = data;
  long width = job->width;
  for (long row = begin; row < end; row++) {
    const float *restrict a = job->a + row * 2 * width, *restrict b = a + width;
    float* restrict y = job->x + row * width;
    for (long i = 0; i < width; i++) y[i] = a[i] * sigmoid_of(a[i]) * b[i];
  }
}

/* [a, b] [..., 2 e] -> a sigmoid(a) b [..., e] */
HANDLER(segue_swiglu) {
  Rows job = {.a = IN(0), .x = OUT(0), .width = last(output(frame, 0))};
  parallel(frame, rows_of(input(frame, 0)), swiglu_rows, &job);
}

static void swiglu_back_rows(void* data, long part, long begin, long end) {
  (void)part;
  Rows* job = data;
  long width = job->width;
  for (long row = begin; row < end; row++) {
    const float *restrict a = job->a + row * 2 * width, *restrict b = a + width, *restrict dy = job->b + row * width;
    float *restrict da = job->x + row * 2 * width, *restrict db = da + width;
    for (long i = 0; i < width; i++) {
      float s = sigmoid_of(a[i]);
      db[i] = dy[i] * a[i] * s;
      da[i] = dy[i] * b[i] * s * (1.0f + a[i] * (1.0f - s));
    }
  }
}

/* [a, b], d y -> [d a, d b] */
HANDLER(segue_swiglu_back) {
  Rows job = {.a = IN(0), .b = IN(1), .x = OUT(0), .width = last(input(frame, 1))};
  parallel(frame, rows_of(input(frame, 0)), swiglu_back_rows, &job);
}

static const float GELU = 0.7978845608f, CUBE = 0.044715f;

static void geglu_rows(void* data, long part, long begin, long end) {
  (void)part;
  Rows* job = data;
  for (long i = begin * job->width; i < end * job->width; i++) {
    float x = job->a[i];
    job->x[i] = 0.5f * x * (1.0f + tanh_of(GELU * (x + CUBE * x * x * x))) * job->b[i];
  }
}

/* gate, y -> gelu(gate) y */
HANDLER(segue_geglu) {
  Rows job = {.a = IN(0), .b = IN(1), .x = OUT(0), .width = last(input(frame, 0))};
  parallel(frame, rows_of(input(frame, 0)), geglu_rows, &job);
}

static void geglu_back_rows(void* data, long part, long begin, long end) {
  (void)part;
  Rows* job = data;
  const float *restrict a = job->a, *restrict b = job->b, *restrict c = job->c;
  float *restrict x = job->x, *restrict y = job->y;
  for (long i = begin * job->width; i < end * job->width; i++) {
    float g = a[i], t = tanh_of(GELU * (g + CUBE * g * g * g));
    float slope = 0.5f * (1.0f + t) + 0.5f * g * (1.0f - t * t) * GELU * (1.0f + 3.0f * CUBE * g * g);
    x[i] = c[i] * b[i] * slope;
    y[i] = c[i] * 0.5f * g * (1.0f + t);
  }
}

/* gate, y, d out -> d gate, d y */
HANDLER(segue_geglu_back) {
  Rows job = {.a = IN(0), .b = IN(1), .c = IN(2), .x = OUT(0), .y = OUT(1), .width = last(input(frame, 0))};
  parallel(frame, rows_of(input(frame, 0)), geglu_back_rows, &job);
}

/* ---- the short causal convolution, within one user ---- */

enum { TAPS = 16 };

typedef struct {
  const float *x, *tail, *start, *conv, *bias, *dy;
  float *y, *end, *dx, *dtail, *dstart, *dconv, *dbias;
  const uint8_t* reset;
  long steps, lanes, width, taps;
} Convolution;

static void conv_lanes(void* data, long part, long begin, long end) {
  (void)part;
  Convolution* job = data;
  long width = job->width, lanes = job->lanes, back = job->taps - 1;
  for (long lane = begin; lane < end; lane++) {
    const float* past[TAPS];
    for (long k = 0; k < back; k++) past[k] = job->tail + (k * lanes + lane) * width;
    for (long t = 0; t < job->steps; t++) {
      if (job->reset[t * lanes + lane])
        for (long k = 0; k < back; k++) past[k] = job->start + (k * lanes + lane) * width;
      const float* restrict x = job->x + (t * lanes + lane) * width;
      float* restrict y = job->y + (t * lanes + lane) * width;
      for (long i = 0; i < width; i++) y[i] = job->bias[i] + job->conv[i] * x[i];
      for (long k = 0; k < back; k++) {
        const float *restrict conv = job->conv + (k + 1) * width, *restrict old = past[k];
        for (long i = 0; i < width; i++) y[i] += conv[i] * old[i];
      }
      for (long k = back - 1; k > 0; k--) past[k] = past[k - 1];
      if (back) past[0] = x;
    }
    for (long k = 0; k < back; k++)
      memcpy(job->end + (k * lanes + lane) * width, past[k], (size_t)width * sizeof(float));
  }
}

/* x [T, B, d], tail [K, B, d], reset [T, B], start [K, B, d], conv [K + 1, d], bias [d] -> y [T, B, d], tail */
HANDLER(segue_convolve) {
  XLA_FFI_Buffer* x = input(frame, 0);
  Convolution job = {.x = IN(0), .tail = IN(1), .reset = input(frame, 2)->data, .start = IN(3), .conv = IN(4),
                     .bias = IN(5), .y = OUT(0), .end = OUT(1), .steps = axis(x, 0), .lanes = axis(x, 1),
                     .width = last(x), .taps = axis(input(frame, 4), 0)};
  parallel(frame, job.lanes, conv_lanes, &job);
}

static void conv_back_lanes(void* data, long part, long begin, long end) {
  Convolution* job = data;
  long width = job->width, lanes = job->lanes, back = job->taps - 1;
  float* sums = job->dconv + part * job->taps * width;
  float* restrict dbias = job->dbias + part * width;
  for (long lane = begin; lane < end; lane++) {
    const float* past[TAPS];
    float* dpast[TAPS];
    for (long k = 0; k < back; k++) {
      long at = (k * lanes + lane) * width;
      past[k] = job->tail + at, dpast[k] = job->dtail + at;
      memset(job->dtail + at, 0, (size_t)width * sizeof(float));
      memset(job->dstart + at, 0, (size_t)width * sizeof(float));
    }
    for (long t = 0; t < job->steps; t++) {
      long at = (t * lanes + lane) * width;
      if (job->reset[t * lanes + lane])
        for (long k = 0; k < back; k++) {
          past[k] = job->start + (k * lanes + lane) * width, dpast[k] = job->dstart + (k * lanes + lane) * width;
        }
      const float *restrict dy = job->dy + at, *restrict x = job->x + at;
      const float* restrict conv = job->conv;
      float *restrict dx = job->dx + at, *restrict sum = sums;
#pragma omp simd
      for (long i = 0; i < width; i++) {
        dx[i] = conv[i] * dy[i];
        sum[i] += x[i] * dy[i];
        dbias[i] += dy[i];
      }
      for (long k = 0; k < back; k++) {
        const float *restrict tap = conv + (k + 1) * width, *restrict old = past[k];
        float *restrict dold = dpast[k], *restrict sum_k = sums + (k + 1) * width;
        for (long i = 0; i < width; i++) {
          dold[i] += tap[i] * dy[i];
          sum_k[i] += old[i] * dy[i];
        }
      }
      for (long k = back - 1; k > 0; k--) past[k] = past[k - 1], dpast[k] = dpast[k - 1];
      if (back) past[0] = x, dpast[0] = dx;
    }
  }
}

/* x, tail, reset, start, conv, d y -> d x, d tail, d start, d conv, d bias; nothing comes back through the new tail */
HANDLER(segue_convolve_back) {
  XLA_FFI_Buffer* x = input(frame, 0);
  long taps = axis(input(frame, 4), 0), width = last(x);
  Convolution job = {.x = IN(0), .tail = IN(1), .reset = input(frame, 2)->data, .start = IN(3), .conv = IN(4),
                     .dy = IN(5), .dx = OUT(0), .dtail = OUT(1), .dstart = OUT(2), .dconv = partial_sums(taps * width),
                     .dbias = partial_sums(width), .steps = axis(x, 0), .lanes = axis(x, 1), .width = width,
                     .taps = taps};
  parallel(frame, job.lanes, conv_back_lanes, &job);
  add_up(OUT(3), job.dconv, taps * width);
  add_up(OUT(4), job.dbias, width);
}

/* ---- the gated linear recurrence ---- */

typedef struct {
  const float *gates, *bias, *decay, *c, *s, *start, *y, *dy;
  float *out, *dgates, *dc, *ds, *dstart, *dbias, *ddecay;
  const uint8_t* reset;
  long steps, lanes, width;
} Recurrence;

static const float LEAST = 1e-12f;

static void linear_lanes(void* data, long part, long begin, long end) {
  (void)part;
  Recurrence* job = data;
  long width = job->width, lanes = job->lanes;
  const float *restrict bias = job->bias, *restrict decay = job->decay;
  for (long lane = begin; lane < end; lane++) {
    const float* s = job->s + lane * width;
    for (long t = 0; t < job->steps; t++) {
      long at = t * lanes + lane;
      if (job->reset[at]) s = job->start + lane * width;
      const float *restrict r = job->gates + at * 2 * width, *restrict e = r + width, *restrict c = job->c + at * width;
      const float* restrict before = s;
      float* restrict y = job->out + at * width;
      for (long i = 0; i < width; i++) {
        float log_a = -decay[i] * sigmoid_of(r[i] + bias[i]), less = expm1_of(2.0f * log_a);
        float scale = sqrtf(larger(LEAST, -less)), a = sqrtf(1.0f + less);
        y[i] = a * before[i] + scale * sigmoid_of(e[i] + bias[width + i]) * c[i];
      }
      s = y;
    }
  }
}

/* gates [T, B, 2 d] before bias and sigmoid, bias [2 d], decay [d], c [T, B, d], s [B, d], reset [T, B], start [B, d]
   -> y [T, B, d] */
HANDLER(segue_linear) {
  XLA_FFI_Buffer* c = input(frame, 3);
  Recurrence job = {.gates = IN(0), .bias = IN(1), .decay = IN(2), .c = IN(3), .s = IN(4),
                    .reset = input(frame, 5)->data, .start = IN(6), .out = OUT(0), .steps = axis(c, 0),
                    .lanes = axis(c, 1), .width = last(c)};
  parallel(frame, job.lanes, linear_lanes, &job);
}

static void linear_back_lanes(void* data, long part, long begin, long end) {
  Recurrence* job = data;
  long width = job->width, lanes = job->lanes;
  const float *restrict bias = job->bias, *restrict decay = job->decay;
  float *restrict dbias_r = job->dbias + part * 2 * width, *restrict dbias_e = dbias_r + width;
  float* restrict ddecay = job->ddecay + part * width;
  for (long lane = begin; lane < end; lane++) {
    float *restrict ahead = job->ds + lane * width, *dstart = job->dstart + lane * width;
    memset(ahead, 0, (size_t)width * sizeof(float));
    memset(dstart, 0, (size_t)width * sizeof(float));
    for (long t = job->steps - 1; t >= 0; t--) {
      long at = t * lanes + lane;
      int reset = job->reset[at];
      const float* restrict before = reset    ? job->start + lane * width
                                     : t == 0 ? job->s + lane * width
                                              : job->y + (at - lanes) * width;
      const float *restrict r_in = job->gates + at * 2 * width, *restrict e_in = r_in + width;
      const float *restrict c = job->c + at * width, *restrict dy = job->dy + at * width;
      float *restrict dr_in = job->dgates + at * 2 * width, *restrict de_in = dr_in + width;
      float* restrict dc = job->dc + at * width;
#pragma omp simd
      for (long i = 0; i < width; i++) {
        float r = sigmoid_of(r_in[i] + bias[i]), e = sigmoid_of(e_in[i] + bias[width + i]);
        float less = expm1_of(-2.0f * decay[i] * r), kept = 1.0f + less, a = sqrtf(kept);
        float scale = sqrtf(larger(LEAST, -less)), g = dy[i] + ahead[i];
        float d_scale = -less > LEAST ? -g * e * c[i] * kept / scale : 0.0f;
        float d_log = g * before[i] * a + d_scale;
        float dr = -decay[i] * d_log * r * (1.0f - r), de = g * scale * c[i] * e * (1.0f - e);
        dr_in[i] = dr;
        de_in[i] = de;
        dc[i] = g * scale * e;
        ahead[i] = g * a;
        dbias_r[i] += dr;
        dbias_e[i] += de;
        ddecay[i] -= r * d_log;
      }
      if (reset)
        for (long i = 0; i < width; i++) {
          dstart[i] += ahead[i];
          ahead[i] = 0.0f;
        }
    }
  }
}

/* gates, bias, decay, c, s, reset, start, y, d y -> d gates, d bias, d decay, d c, d s, d start */
HANDLER(segue_linear_back) {
  XLA_FFI_Buffer* c = input(frame, 3);
  long width = last(c);
  Recurrence job = {.gates = IN(0), .bias = IN(1), .decay = IN(2), .c = IN(3), .s = IN(4),
                    .reset = input(frame, 5)->data, .start = IN(6), .y = IN(7), .dy = IN(8), .dgates = OUT(0),
                    .dbias = partial_sums(2 * width), .ddecay = partial_sums(width), .dc = OUT(3), .ds = OUT(4),
                    .dstart = OUT(5), .steps = axis(c, 0), .lanes = axis(c, 1), .width = width};
  parallel(frame, job.lanes, linear_back_lanes, &job);
  add_up(OUT(1), job.dbias, 2 * width);
  add_up(OUT(2), job.ddecay, width);
}

/* ---- one step of a gated recurrent unit, around its product ---- */

typedef struct {
  const float *x, *product, *bias, *h, *dy;
  float *out, *dx, *dproduct, *dh;
  long width;
} Gated;

static void gru_rows(void* data, long part, long begin, long end) {
  (void)part;
  Gated* job = data;
  long width = job->width;
  const float* restrict bias = job->bias;
  for (long row = begin; row < end; row++) {
    const float *restrict x = job->x + row * 3 * width, *restrict u = job->product + row * 3 * width;
    const float* restrict h = job->h + row * width;
    float* restrict out = job->out + row * width;
    for (long i = 0; i < width; i++) {
      float z = sigmoid_of(x[i] + u[i]), r = sigmoid_of(x[width + i] + u[width + i]);
      float n = tanh_of(x[2 * width + i] + r * (u[2 * width + i] + bias[i]));
      out[i] = n + z * (h[i] - n);
    }
  }
}

/* x [B, 3 d] with bias, product U h [B, 3 d], bias of the candidate [d], h [B, d] -> new h [B, d] */
HANDLER(segue_gru) {
  Gated job = {.x = IN(0), .product = IN(1), .bias = IN(2), .h = IN(3), .out = OUT(0), .width = last(input(frame, 3))};
  parallel(frame, rows_of(input(frame, 3)), gru_rows, &job);
}

static void gru_back_rows(void* data, long part, long begin, long end) {
  (void)part;
  Gated* job = data;
  long width = job->width;
  const float* restrict bias = job->bias;
  for (long row = begin; row < end; row++) {
    const float *restrict x = job->x + row * 3 * width, *restrict u = job->product + row * 3 * width;
    const float *restrict h = job->h + row * width, *restrict dy = job->dy + row * width;
    float *restrict dx = job->dx + row * 3 * width, *restrict du = job->dproduct + row * 3 * width;
    float* restrict dh = job->dh + row * width;
#pragma omp simd
    for (long i = 0; i < width; i++) {
      float z = sigmoid_of(x[i] + u[i]), r = sigmoid_of(x[width + i] + u[width + i]);
      float read = u[2 * width + i] + bias[i], n = tanh_of(x[2 * width + i] + r * read);
      float dn = dy[i] * (1.0f - z) * (1.0f - n * n);
      dx[i] = du[i] = dy[i] * (h[i] - n) * z * (1.0f - z);
      dx[width + i] = du[width + i] = dn * read * r * (1.0f - r);
      dx[2 * width + i] = dn;
      du[2 * width + i] = dn * r;
      dh[i] = dy[i] * z;
    }
  }
}

/* x, product, bias, h, d new h -> d x, d product, d h but for what comes through the product */
HANDLER(segue_gru_back) {
  Gated job = {.x = IN(0), .product = IN(1), .bias = IN(2), .h = IN(3), .dy = IN(4), .dx = OUT(0), .dproduct = OUT(1),
               .dh = OUT(2), .width = last(input(frame, 3))};
  parallel(frame, rows_of(input(frame, 3)), gru_back_rows, &job);
}

/* ---- what the processor can do ---- */

/* Whether it multiplies pairs of bfloat16 and adds them up in float32, at twice the rate of float32. */
EXPORT int segue_multiplies_bfloat16(void) {
#if defined(__AVX512BF16__) || defined(__AMX_BF16__)
  return 1;
#else
  return 0;
#endif
}
