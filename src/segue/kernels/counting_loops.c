/* Counts of simple models: what follows what, and the highest of each row.

   Knows: arrays. Does not know: items, sparse matrices, shapes (`counting_loops.py` checks them). */

#include "formulas.h"

/* Add to table[x, y], n_items wide, for each event of x and each of the `window` events of y after it of the same user,
   decay[distance - 1]; event by event, the nearest follower first. */
EXPORT void segue_followers(const int32_t* items, const int64_t* offsets, int64_t users, int64_t n_items,
                            int64_t window, const double* decay, double* table) {
  for (int64_t user = 0; user < users; user++) {
    int64_t end = offsets[user + 1];
    for (int64_t event = offsets[user]; event < end; event++) {
      double* row = table + n_items * items[event];
      int64_t last = event + window < end - 1 ? event + window : end - 1;
      for (int64_t later = event + 1; later <= last; later++) row[items[later]] += decay[later - event - 1];
    }
  }
}

/* The value that would stand at a place, counted from 0, if the values were sorted in falling order (Hoare 1961). */
static float at_place(float* values, int64_t size, int64_t place) {
  int64_t low = 0, high = size - 1;
  while (low < high) {
    float pivot = values[low + (high - low) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (values[i] > pivot) i++;
      while (values[j] < pivot) j--;
      if (i <= j) {
        float other = values[i];
        values[i++] = values[j];
        values[j--] = other;
      }
    }
    if (place <= j) high = j;
    else if (place >= i) low = i;
    else break;
  }
  return values[place];
}

/* Write to places, row by row, where the `count` highest values above 0 of each row stand, from its begin on and in
   order; of equal values the first. found[row] is how many they are, `count` at most. `room` holds the longest row. */
EXPORT void segue_highest(const float* values, const int64_t* offsets, int64_t rows, int64_t count, float* room,
                          int32_t* places, int64_t* found) {
  for (int64_t row = 0; row < rows; row++) {
    const float* of_row = values + offsets[row];
    int64_t size = offsets[row + 1] - offsets[row], above = 0, equal = 0, kept = 0;
    for (int64_t at = 0; at < size; at++)
      if (of_row[at] > 0.0f) room[above++] = of_row[at];
    float cut = 0.0f;
    if (above > count) {
      cut = at_place(room, above, count - 1);
      equal = count;
      for (int64_t at = 0; at < size; at++) equal -= of_row[at] > cut;
    }
    for (int64_t at = 0; at < size; at++) {
      int keep = of_row[at] > cut || (of_row[at] == cut && equal-- > 0);
      if (keep) places[kept++] = (int32_t)at;
    }
    places += kept;
    found[row] = kept;
  }
}
