"""Compiled loops: C where there is a compiler, and pure twins that compute the same.

Knows: how a source is compiled and kept for this processor (`build`), the loops that XLA calls in
training (`training_loops`), the loops of serving (`serving_loops`), counts of trends
(`trend_loops`) and of simple models (`counting_loops`). Tests hold each loop against its twin.
Does not know: items, users, weights.
"""
