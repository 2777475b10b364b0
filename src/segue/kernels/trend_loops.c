/* Counts of what everybody does now, by item and by pair of items, called through ctypes.

   Knows: counts in buckets of time, which items are popular now, which items follow an item, the features of
   candidates.
   Does not know: Python, ids (a number of 64 bits stands for an item, 0 for none), users, the model.

   A count is a whole number in a bucket of time, so adding commutes and removing is exact. Every function computes what
   its pure twin in `trend_loops.py` computes. */

#include <stdlib.h>
#include <string.h>

#include "formulas.h"

enum { TIERS = 5, BUCKETS = 4, LAST = 3, FEATURES = 12, POPULAR = 80, MOST = 512, MORE = 5, WIDEST = 64 };
/* The half-lives of the tiers, in the shortest half-life. Of a pair, the first three count what came next, the others
   what came within LAST events. */
static const int64_t OF_ITEM[TIERS] = {1, 6, 24, 144, 864}, OF_PAIR[TIERS] = {6, 72, 288, 72, 864};
static const int FOLLOWERS[LAST] = {40, 20, 20};

typedef struct {
  int32_t latest[TIERS];
  int32_t n[TIERS][BUCKETS]; /* of the bucket `latest` and those before it */
} Counts;

typedef struct {
  int64_t key;
  int32_t pairs;          /* the first pair that it begins, -1 for none */
  int32_t changed, found; /* pairs added since the list of followers was made, and its length */
  int32_t* followers;     /* the likeliest pairs, best first; NULL until they are asked for */
  uint32_t asked;         /* the last request that has it as a candidate */
  Counts counts;
} Item;

typedef struct {
  int32_t before, item, next;
  Counts counts;
} Pair;

typedef struct {
  int64_t shortest, newest, most_items, most_pairs;
  int64_t items, item_room, pairs, pair_room;
  Item* item;
  Pair* pair;
  int32_t *item_index, *pair_index; /* open addressing, -1 for a free place; twice the room and more */
  int64_t popular_at, popular_changed;
  int32_t popular[POPULAR], found;
  uint32_t asked; /* requests so far */
} Trends;

typedef struct {
  float item[TIERS][BUCKETS], pair[TIERS][BUCKETS]; /* the weight of a count, by the age of its bucket */
  int64_t item_now[TIERS], pair_now[TIERS];
} Moment;

static int64_t floor_of(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15ull;
  return x ^ (x >> 29);
}

static void weigh(float weights[TIERS][BUCKETS], int64_t now_bucket[TIERS], const int64_t* scales, int64_t shortest,
                  int64_t now) {
  for (int t = 0; t < TIERS; t++) {
    int64_t width = shortest * scales[t];
    now_bucket[t] = floor_of(now, width);
    double into = (double)(now - now_bucket[t] * width) / (double)width;
    for (int age = 0; age < BUCKETS; age++) {
      double halves = into + age - 0.5;
      weights[t][age] = (float)exp2(-(halves > 0 ? halves : 0));
    }
  }
}

static Moment moment_of(const Trends* all, int64_t now) {
  Moment moment;
  weigh(moment.item, moment.item_now, OF_ITEM, all->shortest, now);
  weigh(moment.pair, moment.pair_now, OF_PAIR, all->shortest, now);
  return moment;
}

static float value_of(const Counts* counts, int t, float weights[TIERS][BUCKETS], const int64_t* now_bucket) {
  float sum = 0;
  int64_t age = now_bucket[t] - counts->latest[t];
  for (int j = 0; j < BUCKETS; j++, age++)
    if (counts->n[t][j] && age < BUCKETS) sum += (float)counts->n[t][j] * weights[t][age < 0 ? 0 : age];
  return sum;
}

static void add_to(Counts* counts, int first, int last, const int64_t* scales, int64_t shortest, int64_t time,
                   int32_t sign) {
  for (int t = first; t < last; t++) {
    int64_t bucket = floor_of(time, shortest * scales[t]), ahead = bucket - counts->latest[t];
    if (ahead > 0) {
      if (sign < 0) continue;
      for (int j = BUCKETS - 1; j >= 0; j--) counts->n[t][j] = j >= ahead ? counts->n[t][j - ahead] : 0;
      counts->latest[t] = (int32_t)bucket;
      ahead = 0;
    }
    if (-ahead < BUCKETS && (sign > 0 || counts->n[t][-ahead] > 0)) counts->n[t][-ahead] += sign;
  }
}

/* Whether a count may still be above 0 in tiers up to `tiers` at the newest time. */
static int alive(const Trends* all, const Counts* counts, const int64_t* scales, int t) {
  int64_t age = floor_of(all->newest, all->shortest * scales[t]) - counts->latest[t];
  for (int j = 0; j < BUCKETS; j++)
    if (counts->n[t][j] && age + j < BUCKETS) return 1;
  return 0;
}

static int64_t place_of(int64_t size, uint64_t hash) { return (int64_t)(hash & (uint64_t)(size - 1)); }

static int64_t item_place(const Trends* all, int64_t key) {
  int64_t size = 2 * all->item_room, at = place_of(size, mixed((uint64_t)key));
  while (all->item_index[at] >= 0 && all->item[all->item_index[at]].key != key) at = (at + 1) & (size - 1);
  return at;
}

static uint64_t pair_hash(int32_t before, int32_t item) { return mixed(((uint64_t)(uint32_t)before << 32) | (uint32_t)item); }

static int64_t pair_place(const Trends* all, int32_t before, int32_t item) {
  int64_t size = 2 * all->pair_room, at = place_of(size, pair_hash(before, item));
  for (int32_t p; (p = all->pair_index[at]) >= 0; at = (at + 1) & (size - 1))
    if (all->pair[p].before == before && all->pair[p].item == item) break;
  return at;
}

static void index_all(Trends* all) {
  memset(all->item_index, -1, sizeof(int32_t) * 2 * (size_t)all->item_room);
  memset(all->pair_index, -1, sizeof(int32_t) * 2 * (size_t)all->pair_room);
  for (int64_t i = 0; i < all->items; i++) {
    all->item_index[item_place(all, all->item[i].key)] = (int32_t)i;
    all->item[i].pairs = -1;
  }
  for (int64_t p = 0; p < all->pairs; p++) {
    Pair* pair = &all->pair[p];
    all->pair_index[pair_place(all, pair->before, pair->item)] = (int32_t)p;
    pair->next = all->item[pair->before].pairs;
    all->item[pair->before].pairs = (int32_t)p;
  }
}

/* Drop what counts nothing any more; of what is left, the least recent until a quarter of the most is free. */
static int let_go(Trends* all) {
  int32_t* moved = malloc(sizeof(int32_t) * (size_t)(all->items + 1));
  if (!moved) return 0;
  int64_t kept = 0, pairs = 0;
  for (int t = TIERS - 1; t >= 0; t--) {
    int64_t left = 0;
    for (int64_t i = 0; i < all->items; i++) left += alive(all, &all->item[i].counts, OF_ITEM, t);
    if (t && left > all->most_items * 3 / 4) continue;
    for (int64_t i = 0; i < all->items; i++) {
      int stays = alive(all, &all->item[i].counts, OF_ITEM, t) && kept < all->most_items * 3 / 4;
      free(all->item[i].followers);
      all->item[i].followers = NULL;
      moved[i] = stays ? (int32_t)kept : -1;
      if (stays) all->item[kept++] = all->item[i];
    }
    break;
  }
  all->items = kept;
  static const int ORDER[TIERS] = {4, 2, 1, 3, 0}; /* the longest half-life first */
  for (int n = 0; n < TIERS; n++) {
    int64_t left = 0, last = n == TIERS - 1;
    for (int64_t p = 0; p < all->pairs; p++) left += alive(all, &all->pair[p].counts, OF_PAIR, ORDER[n]);
    if (!last && left > all->most_pairs * 3 / 4) continue;
    for (int64_t p = 0; p < all->pairs; p++) {
      Pair pair = all->pair[p];
      int stays = alive(all, &pair.counts, OF_PAIR, ORDER[n]) && pairs < all->most_pairs * 3 / 4;
      pair.before = moved[pair.before], pair.item = moved[pair.item];
      if (stays && pair.before >= 0 && pair.item >= 0) all->pair[pairs++] = pair;
    }
    break;
  }
  all->pairs = pairs;
  all->found = -1;
  free(moved);
  index_all(all);
  return 1;
}

/* Make room for one more item and LAST more pairs. */
static int with_room(Trends* all) {
  int items = all->items + 1 > all->item_room, pairs = all->pairs + LAST > all->pair_room;
  if (!items && !pairs) return 1;
  if (!let_go(all)) return 0;
  while (all->items + 1 > all->item_room * 3 / 4) all->item_room *= 2;
  while (all->pairs + LAST > all->pair_room * 3 / 4) all->pair_room *= 2;
  Item* item = realloc(all->item, sizeof(Item) * (size_t)all->item_room);
  if (item) all->item = item;
  Pair* pair = realloc(all->pair, sizeof(Pair) * (size_t)all->pair_room);
  if (pair) all->pair = pair;
  int32_t* item_index = realloc(all->item_index, sizeof(int32_t) * 2 * (size_t)all->item_room);
  if (item_index) all->item_index = item_index;
  int32_t* pair_index = realloc(all->pair_index, sizeof(int32_t) * 2 * (size_t)all->pair_room);
  if (pair_index) all->pair_index = pair_index;
  if (!item || !pair || !item_index || !pair_index) return 0;
  index_all(all);
  return 1;
}

EXPORT void segue_trends_free(Trends* all) {
  if (!all) return;
  for (int64_t i = 0; all->item && i < all->items; i++) free(all->item[i].followers);
  free(all->item), free(all->pair), free(all->item_index), free(all->pair_index), free(all);
}

EXPORT Trends* segue_trends_new(int64_t shortest, int64_t most_items, int64_t most_pairs) {
  Trends* all = calloc(1, sizeof(Trends));
  if (!all) return NULL;
  all->shortest = shortest, all->most_items = most_items, all->most_pairs = most_pairs;
  all->item_room = all->pair_room = 1024;
  all->newest = INT64_MIN, all->found = -1;
  all->item = malloc(sizeof(Item) * 1024), all->pair = malloc(sizeof(Pair) * 1024);
  all->item_index = malloc(sizeof(int32_t) * 2048), all->pair_index = malloc(sizeof(int32_t) * 2048);
  if (!all->item || !all->pair || !all->item_index || !all->pair_index) {
    segue_trends_free(all);
    return NULL;
  }
  index_all(all);
  return all;
}

EXPORT Trends* segue_trends_copy(const Trends* from) {
  Trends* all = malloc(sizeof(Trends));
  if (!all) return NULL;
  *all = *from;
  all->found = -1;
  all->item = malloc(sizeof(Item) * (size_t)all->item_room), all->pair = malloc(sizeof(Pair) * (size_t)all->pair_room);
  all->item_index = malloc(sizeof(int32_t) * 2 * (size_t)all->item_room);
  all->pair_index = malloc(sizeof(int32_t) * 2 * (size_t)all->pair_room);
  if (!all->item || !all->pair || !all->item_index || !all->pair_index) {
    all->items = 0;
    segue_trends_free(all);
    return NULL;
  }
  memcpy(all->item, from->item, sizeof(Item) * (size_t)all->items);
  memcpy(all->pair, from->pair, sizeof(Pair) * (size_t)all->pairs);
  for (int64_t i = 0; i < all->items; i++) all->item[i].followers = NULL;
  index_all(all);
  return all;
}

static int32_t item_of(Trends* all, int64_t key, int make) {
  if (!key) return -1;
  int64_t at = item_place(all, key);
  if (all->item_index[at] >= 0 || !make) return all->item_index[at];
  Item* item = &all->item[all->items];
  memset(item, 0, sizeof(Item));
  item->key = key, item->pairs = -1;
  for (int t = 0; t < TIERS; t++) item->counts.latest[t] = INT32_MIN / 2;
  return all->item_index[at] = (int32_t)all->items++;
}

static int32_t pair_of(Trends* all, int32_t before, int32_t item, int make) {
  if (before < 0 || item < 0) return -1;
  int64_t at = pair_place(all, before, item);
  if (all->pair_index[at] >= 0 || !make) return all->pair_index[at];
  Pair* pair = &all->pair[all->pairs];
  memset(pair, 0, sizeof(Pair));
  pair->before = before, pair->item = item, pair->next = all->item[before].pairs;
  for (int t = 0; t < TIERS; t++) pair->counts.latest[t] = INT32_MIN / 2;
  return all->item[before].pairs = all->pair_index[at] = (int32_t)all->pairs++;
}

/* Add events, or with a sign of -1 remove events that were added: keys, the LAST items before each, newest first, the
   times in microseconds. Returns 0 where there is no memory. */
EXPORT int64_t segue_trends_add(Trends* all, int64_t events, const int64_t* keys, const int64_t* before,
                                const int64_t* times, const int64_t* signs) {
  for (int64_t e = 0; e < events; e++) {
    int32_t sign = signs[e] < 0 ? -1 : 1;
    if (!with_room(all)) return 0;
    if (sign > 0 && times[e] > all->newest) all->newest = times[e];
    int32_t item = item_of(all, keys[e], sign > 0);
    if (item < 0) continue;
    add_to(&all->item[item].counts, 0, TIERS, OF_ITEM, all->shortest, times[e], sign);
    all->popular_changed++;
    for (int b = 0; b < LAST; b++) {
      int64_t key = before[e * LAST + b];
      if (!key || key == keys[e]) continue;
      if (!with_room(all)) return 0;
      if ((item = item_of(all, keys[e], 0)) < 0) break;
      int32_t first = item_of(all, key, sign > 0), pair = pair_of(all, first, item, sign > 0);
      if (pair < 0) continue;
      add_to(&all->pair[pair].counts, b ? 3 : 0, TIERS, OF_PAIR, all->shortest, times[e], sign);
      all->item[first].changed++;
    }
  }
  return 1;
}

static void insert(int32_t* best, float* values, int32_t* found, int32_t most, int32_t one, float value) {
  if (!(value > 0) || (*found == most && value <= values[most - 1])) return;
  int32_t at = *found < most ? (*found)++ : most - 1;
  for (; at > 0 && values[at - 1] < value; at--) best[at] = best[at - 1], values[at] = values[at - 1];
  best[at] = one, values[at] = value;
}

/* The most popular items, made anew each second and after enough events. */
static void make_popular(Trends* all, Moment* moment, int64_t now) {
  int64_t second = floor_of(now, 1000000);
  int64_t enough = all->items / 64 + 1; /* some microseconds an event, whatever the number of items */
  if (all->found >= 0 && all->popular_at == second && all->popular_changed < enough) return;
  float values[POPULAR];
  all->found = 0, all->popular_at = second, all->popular_changed = 0;
  for (int64_t i = 0; i < all->items; i++) {
    const Counts* counts = &all->item[i].counts;
    float value = value_of(counts, 1, moment->item, moment->item_now) +
                  value_of(counts, 3, moment->item, moment->item_now) / 24.0f;
    insert(all->popular, values, &all->found, POPULAR, (int32_t)i, value);
  }
}

/* The likeliest followers of an item, made anew after an eighth of them changed and some. */
static void make_followers(Trends* all, Item* item, Moment* moment) {
  if (item->followers && item->changed < 4 + item->found / 8) return;
  if (!item->followers && !(item->followers = malloc(sizeof(int32_t) * (size_t)FOLLOWERS[0]))) {
    item->found = 0;
    return;
  }
  float values[64];
  item->found = item->changed = 0;
  for (int32_t p = item->pairs; p >= 0; p = all->pair[p].next) {
    const Counts* counts = &all->pair[p].counts;
    float value = value_of(counts, 1, moment->pair, moment->pair_now) +
                  value_of(counts, 3, moment->pair, moment->pair_now) / 4.0f;
    insert(item->followers, values, &item->found, FOLLOWERS[0], p, value);
  }
}

/* Numbers that stand for NaN-free logs of counts. */
static void logs(float* values, int count) {
#pragma omp simd
  for (int i = 0; i < count; i++) values[i] = log_of(values[i]);
}

static void features_of(const Trends* all, Moment* moment, int32_t item, const int32_t* last, const float* of_last,
                        float* out) {
  for (int t = 0; t < TIERS; t++)
    out[t] = (item < 0 ? 0.0f : value_of(&all->item[item].counts, t, moment->item, moment->item_now)) + 0.05f;
  float next[LAST] = {0, 0, 0}, nexts = 0, near = 0;
  for (int b = 0; b < LAST; b++) {
    int32_t pair = pair_of((Trends*)all, last[b], item, 0);
    if (pair < 0) continue;
    const Counts* counts = &all->pair[pair].counts;
    for (int t = 0; t < LAST && !b; t++) next[t] = value_of(counts, t, moment->pair, moment->pair_now);
    nexts += value_of(counts, 1, moment->pair, moment->pair_now) / of_last[b];
    near += value_of(counts, 3, moment->pair, moment->pair_now) / of_last[b];
  }
  for (int t = 0; t < LAST; t++) out[TIERS + t] = next[t] + 0.05f;
  out[8] = nexts + 0.001f, out[9] = near + 0.001f;
  for (int n = 0; n < 2; n++) out[10 + n] = of_last[LAST + n] + 0.05f;
  logs(out, FEATURES);
}

/* What is asked of one request: its moment, its last items with their values, and the candidates. */
typedef struct {
  Moment moment;
  int32_t last[LAST], chosen[MOST];
  float of_last[LAST + 2]; /* three more than the value of each, then two values of the last item */
  int64_t keys[MOST];
  int32_t found;
} Request;

static void begin_request(Trends* all, Request* request, int64_t now, const int64_t* last_keys) {
  request->moment = moment_of(all, now);
  request->found = 0;
  if (!++all->asked) all->asked = 1; /* 0 stands for an item that nobody has asked for */
  make_popular(all, &request->moment, now);
  for (int b = 0; b < LAST; b++) {
    int32_t one = request->last[b] = item_of(all, last_keys[b], 0);
    const Counts* counts = one < 0 ? NULL : &all->item[one].counts;
    Moment* moment = &request->moment;
    request->of_last[b] = 3.0f + (one < 0 ? 0.0f : value_of(counts, 3, moment->item, moment->item_now));
    for (int n = 0; n < 2 && !b; n++)
      request->of_last[LAST + n] = one < 0 ? 0.0f : value_of(counts, 2 * n + 1, moment->item, moment->item_now);
    if (one >= 0) make_followers(all, &all->item[one], moment);
  }
}

static void choose(Trends* all, Request* request, int32_t item, int64_t key, int32_t room) {
  if (!key || request->found >= room) return;
  if (item >= 0) {
    if (all->item[item].asked == all->asked) return;
    all->item[item].asked = all->asked;
  } else {
    for (int32_t m = 0; m < request->found; m++)
      if (request->keys[m] == key) return;
  }
  request->chosen[request->found] = item, request->keys[request->found++] = key;
}

/* The followers of the last items, then what is popular. */
static void choose_trending(Trends* all, Request* request, int32_t room) {
  for (int b = 0; b < LAST; b++) {
    if (request->last[b] < 0) continue;
    const Item* item = &all->item[request->last[b]];
    for (int32_t c = 0; c < item->found && c < FOLLOWERS[b]; c++) {
      int32_t one = all->pair[item->followers[c]].item;
      choose(all, request, one, all->item[one].key, room);
    }
  }
  for (int32_t c = 0; c < all->found; c++) choose(all, request, all->popular[c], all->item[all->popular[c]].key, room);
}

/* For each request the candidates, each once: those of `also` (0 for none), then followers of the last items, then
   popular items; and their features. `room` is the width of `keys`. */
EXPORT void segue_trends_candidates(Trends* all, int64_t requests, const int64_t* times, const int64_t* last_keys,
                                    const int64_t* also, int64_t width, int64_t room, int64_t* keys, float* features,
                                    int64_t* found) {
  Request request;
  for (int64_t r = 0; r < requests; r++, keys += room, features += room * FEATURES) {
    begin_request(all, &request, times[r], last_keys + r * LAST);
    for (int64_t a = 0; a < width; a++)
      choose(all, &request, item_of(all, also[r * width + a], 0), also[r * width + a], (int32_t)room);
    choose_trending(all, &request, (int32_t)room);
    memcpy(keys, request.keys, sizeof(int64_t) * (size_t)request.found);
    for (int32_t c = 0; c < request.found; c++)
      features_of(all, &request.moment, request.chosen[c], request.last, request.of_last, features + c * FEATURES);
    found[r] = request.found;
  }
}

/* The network that scores candidates, see `segue.trends.ranker`; `hidden` is at most WIDEST. */
typedef struct {
  const float *w_1, *b_1, *w_2, *b_2, *w_3, *linear;
  int64_t hidden;
  float others, unknown;
} Ranker;

/* Rows of a model by keys: open addressing, key 0 for a free place; and the key of each row. */
typedef struct {
  const int64_t* keys;
  const int32_t* rows;
  int64_t size;
  const int64_t* row_keys;
} RowMap;

static int32_t row_of(const RowMap* map, int64_t key) {
  for (int64_t at = place_of(map->size, mixed((uint64_t)key)); map->keys[at]; at = (at + 1) & (map->size - 1))
    if (map->keys[at] == key) return map->rows[at];
  return -1;
}

static inline __attribute__((always_inline)) float ranked_by(const Ranker* ranker, const float* x, int64_t h) {
  float one[WIDEST], two[WIDEST], score = 0;
  memcpy(one, ranker->b_1, sizeof(float) * (size_t)h), memcpy(two, ranker->b_2, sizeof(float) * (size_t)h);
  for (int i = 0; i < FEATURES + MORE; i++) {
    score += x[i] * ranker->linear[i];
#pragma omp simd
    for (int64_t u = 0; u < h; u++) one[u] += x[i] * ranker->w_1[i * h + u];
  }
  for (int64_t i = 0; i < h; i++) {
    float unit = larger(0.0f, one[i]);
#pragma omp simd
    for (int64_t u = 0; u < h; u++) two[u] += unit * ranker->w_2[i * h + u];
  }
  for (int64_t u = 0; u < h; u++) score += larger(0.0f, two[u]) * ranker->w_3[u];
  return score;
}

/* The usual width as a constant makes loops without a remainder. */
static float ranked(const Ranker* ranker, const float* x) {
  return ranker->hidden == 16 ? ranked_by(ranker, x, 16) : ranked_by(ranker, x, ranker->hidden);
}

static float log_sum(const float* values, int32_t count) {
  float top = largest(values, count), sum = 0;
  for (int32_t c = 0; c < count; c++) sum += exp_of(values[c] - top);
  return count ? logf(larger(1e-30f, sum)) + top : 0.0f;
}

/* Order the candidates of each request anew: those of the best rows of the model, the followers and the popular items.
   `recent` holds the keys of the last items of each user, newest first, or is NULL where lists hold no seen item.
   Of the first request with a candidate that has no row, the keys of such candidates are put into `missing`, and the
   number of requests done so far is returned; with `most` 0 such candidates are left out. */
EXPORT int64_t segue_trends_follow(Trends* all, int64_t requests, const int64_t* times, const int64_t* last_keys,
                                   const float* gaps, const int64_t* counts, const int64_t* recent, int64_t recents,
                                   float* scores, int64_t size, const int64_t* best, const int64_t* bests, int64_t width,
                                   const RowMap* map, const Ranker* ranker, int64_t* missing, int64_t most) {
  Request request;
  for (int64_t r = 0; r < requests; r++, scores += size) {
    begin_request(all, &request, times[r], last_keys + r * LAST);
    int32_t rows[MOST], n = 0;
    int64_t missed = 0;
    float values[MOST], own[MOST], top = -INFINITY;
    for (int64_t a = 0; a < bests[r]; a++) {
      int64_t key = map->row_keys[best[r * width + a]];
      choose(all, &request, item_of(all, key, 0), key, MOST);
    }
    choose_trending(all, &request, MOST);
    for (int32_t c = 0; c < request.found; c++) {
      int32_t row = row_of(map, request.keys[c]);
      if (row <= 0 || row >= size) {
        if (row < 0 && missed < most) missing[missed++] = request.keys[c];
        continue;
      }
      request.chosen[n] = request.chosen[c], request.keys[n] = request.keys[c], rows[n] = row, own[n] = scores[row];
      top = own[n] > top ? own[n] : top;
      n++;
    }
    if (missed) return r;
    float given[MOST];
    int32_t known = 0;
    float of_user[2] = {logf(1.0f + larger(0.0f, gaps[r] == gaps[r] ? gaps[r] : 0.0f) / 10.0f), logf(1.0f + (float)counts[r])};
    for (int32_t c = 0; c < n; c++) {
      float x[FEATURES + MORE];
      int is_known = own[c] > -INFINITY;
      features_of(all, &request.moment, request.chosen[c], request.last, request.of_last, x);
      x[FEATURES] = is_known ? larger(ranker->unknown, own[c] - top) : ranker->unknown;
      x[FEATURES + 1] = (float)is_known, x[FEATURES + 2] = of_user[0], x[FEATURES + 3] = of_user[1];
      x[FEATURES + 4] = 0;
      for (int64_t p = 0; recent && p < recents; p++)
        if (recent[r * recents + p] == request.keys[c]) {
          x[FEATURES + 4] = 1.0f / (float)(p + 1);
          break;
        }
      if (is_known) given[known++] = own[c];
      values[c] = ranked(ranker, x);
    }
    float shift = log_sum(given, known) - log_sum(values, n) + ranker->others;
    for (int32_t c = 0; c < n; c++) scores[rows[c]] = values[c] + shift;
  }
  return requests;
}

/* All counts that are above 0 at the newest time, as lines of (first key or 0, key, tier, bucket, count), in no order.
   Without `lines` only their number is returned. */
EXPORT int64_t segue_trends_lines(const Trends* all, int64_t* lines) {
  int64_t found = 0;
  for (int64_t n = 0; n < all->items + all->pairs; n++) {
    const Pair* pair = n < all->items ? NULL : &all->pair[n - all->items];
    const Counts* counts = pair ? &pair->counts : &all->item[n].counts;
    const int64_t* scales = pair ? OF_PAIR : OF_ITEM;
    for (int t = 0; t < TIERS; t++) {
      int64_t now = floor_of(all->newest, all->shortest * scales[t]);
      for (int j = 0; j < BUCKETS; j++) {
        int64_t bucket = counts->latest[t] - j;
        if (!counts->n[t][j] || now - bucket >= BUCKETS) continue;
        if (lines) {
          int64_t* line = lines + 5 * found;
          line[0] = pair ? all->item[pair->before].key : 0, line[1] = pair ? all->item[pair->item].key : all->item[n].key;
          line[2] = t, line[3] = bucket, line[4] = counts->n[t][j];
        }
        found++;
      }
    }
  }
  return found;
}

EXPORT void segue_trends_sizes(const Trends* all, int64_t* sizes) {
  sizes[0] = all->items, sizes[1] = all->pairs, sizes[2] = all->newest;
  sizes[3] = all->item_room * (int64_t)(sizeof(Item) + 8) + all->pair_room * (int64_t)(sizeof(Pair) + 8);
}
