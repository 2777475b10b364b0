"""The traps of evaluation, each as a test that fails where somebody falls into it."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import polars as pl
import pytest

import segue
from segue.data.features.feature_encoders import fit_feature_encoders
from segue.data.log.events import Events
from segue.data.sequences.sequences import encode, item_vocabulary
from segue.evaluation import registry
from segue.evaluation.baselines.counting import Popularity, RecentPopularity
from segue.evaluation.protocols import queries_of, rank_targets, task_of
from segue.evaluation.queries import rank_queries
from segue.evaluation.registry import TrainingData, _tune
from tests_support import described_log, described_recommender, small_recommender


@dataclass
class Scores:
    """A baseline that scores by a function of the history."""

    of: object
    name: str = "planted"

    def score(self, histories):
        return np.stack([self.of(history) for history in histories]).astype(np.float32)


def log(seed=0, users=30, items=200, rows=900):
    """Return a log in which item n + 1 follows item n, two times of three."""
    rng, lists = np.random.default_rng(seed), []
    for user in range(users):
        item = int(rng.integers(0, items))
        for _ in range(rows // users):
            item = (item + 1) % items if rng.random() < 0.67 else int(rng.integers(0, items))
            lists.append((f"u{user}", f"i{item:03d}"))
    table = pl.DataFrame(lists, schema=["user", "item"], orient="row").sample(fraction=1.0, shuffle=True, seed=seed)
    order = table.with_columns(place=pl.int_range(pl.len()).over("user")).sort("place", maintain_order=True)
    return Events(order.select("user", "item", time=pl.int_range(pl.len()) * 10**6))


@pytest.fixture(scope="module")
def halves():
    events = log()
    train, test = segue.split_by_time(events, test=0.2)
    return small_recommender(item_vocabulary(train), repeats="exclude"), train, test


def test_sampled_metrics_every_item_is_ranked_and_not_a_sample(halves):
    rec, _, test = halves
    queries = queries_of(rec, test)
    rng = np.random.default_rng(1)
    table = rng.normal(size=(len(queries.events), rec.vocabulary.size))
    found = np.concatenate(rank_queries(task_of(rec, queries), lambda block: table[block.start : block.stop].astype(np.float32)).ranks)  # fmt: skip  # noqa: E501
    for query, rank in enumerate(found):
        seen, goal = set(queries.history(query).tolist()), int(queries.targets[query])
        others = [row for row in range(1, rec.vocabulary.size) if row not in seen]
        if goal not in seen and goal:
            better = sum(np.float32(table[query, row]) >= np.float32(table[query, goal]) for row in others)
            assert rank == better
    # Beside 20 sampled items the same random scores would hit in half of the lists of ten.
    assert np.mean(found <= 10) < 0.15


def test_ties_a_model_that_scores_all_items_alike_hits_nothing(halves):
    rec, _, test = halves
    report = segue.evaluate(rec, test, baselines={"planted": Scores(lambda history: np.zeros(rec.vocabulary.size))})
    assert report.rows["planted"]["hr@20"] == report.rows["planted"]["ndcg@10"] == 0
    queries = queries_of(rec, test)
    flat = np.zeros((len(queries.events), rec.vocabulary.size), np.float32)
    ranks = np.concatenate(
        rank_queries(task_of(rec, queries), lambda block: flat[block.start : block.stop].copy()).ranks
    )
    for query, rank in enumerate(ranks):  # behind all items that the list may hold
        if queries.targets[query] and queries.targets[query] not in queries.history(query):
            assert rank == rec.vocabulary.size - 1 - len(set(queries.history(query).tolist()) - {0})


def test_equal_timestamps_no_moment_is_on_both_sides_of_a_cut_and_a_query_reads_file_order():
    events = log()
    together = events.with_table(events.table.with_columns(pl.col("time") // 10**8 * 10**8))
    train, test = segue.split_by_time(together, test=0.2)
    assert train.table["time"].max() < test.table["time"].min()
    rec = small_recommender(item_vocabulary(train))
    asked = queries_of(rec, test)
    whole = encode(together, rec.vocabulary)
    places = {id: place for place, id in enumerate(whole.users.to_list())}
    for query in range(len(asked.events)):
        user = places[asked.sequences.users[int(asked.users[query])]]
        history, begin = asked.history(query), whole.offsets[user]
        assert history.tolist() == whole.items[begin : begin + len(history)].tolist()
        assert whole.items[begin + len(history)] == asked.targets[query]


def test_no_seen_mask_a_model_that_lists_what_was_seen_is_not_charged_for_it(halves):
    rec, _, test = halves
    size, queries = rec.vocabulary.size, queries_of(rec, test)
    new = [query for query in range(len(queries.events)) if queries.targets[query] not in [0, *queries.history(query)]]
    goals = {query: int(queries.targets[query]) for query in new}

    def scores(block):
        """Score seen items highest, as a network does that is not told of them, and then the target."""
        table = np.zeros((len(block), size), np.float32)
        for line, query in zip(table, block, strict=True):
            line[goals.get(query, 0)] = 1
            line[queries.history(query)] = 2
        return table

    task = task_of(rec, queries)
    assert set(np.concatenate(rank_queries(task, scores).ranks)[new]) == {1.0}
    assert np.concatenate(rank_queries(task._replace(seen=None), scores).ranks)[new].min() > 1
    for listed, query in zip(np.concatenate(rank_queries(task, scores).lists), range(len(queries.events)), strict=True):
        assert not set(listed.tolist()) & set(queries.history(query).tolist())


def test_future_leaks_by_features_what_is_known_of_the_target_event_itself_does_not_move_its_rank():
    events = described_log()
    rec = described_recommender(events)
    _, test = segue.split_last(events)
    kinds = test.table.schema
    other = {name: pl.lit(value).cast(kinds[name]) for name, value in (("type", "buy"), ("device", "tv"))}
    table = test.table.with_columns(rating=6 - pl.col("rating"), **other)
    turned = test.with_table(table, history=test.history)
    ranks = [rank_targets(rec, queries_of(rec, each))["segue"].ranks[0] for each in (test, turned)]
    np.testing.assert_array_equal(*ranks)
    earlier = test.history.with_table(
        test.history.table.with_columns(rating=6 - pl.col("rating")), history=test.history.history
    )
    moved = replace(test, history=earlier)
    assert (rank_targets(rec, queries_of(rec, moved))["segue"].ranks[0] != ranks[0]).any()  # features are read


def test_future_leaks_by_features_encoders_are_fitted_to_what_is_learnt():
    """Kinds, values and scales come of the training events alone: a strange future changes none of them."""
    whole = described_log()
    train, _ = segue.split_by_time(whole, test=0.3)
    late = pl.int_range(pl.len()) >= len(train)
    device = pl.when(late).then(pl.lit("unheard of")).otherwise(pl.col("device").cast(pl.String))
    strange = whole.with_table(whole.table.with_columns(device=device))
    again, _ = segue.split_by_time(strange, test=0.3)

    def described(events):
        return fit_feature_encoders(events, None, None, text="words").events.describe()

    assert described(again) == described(train) != described(strange)


def test_repeated_events_a_row_that_stands_twice_is_never_on_both_sides_of_a_cut():
    events = log()
    twice = Events(pl.concat([events.table, events.table]).sort("time", maintain_order=True))
    for split in (segue.split_by_time, partial(segue.split_sessions, gap=20), lambda log: segue.split_rolling(log)[1]):
        train, test = split(twice)
        both = train.as_text().join(test.as_text(), on=["user", "item", "time"])
        assert not len(both)


def test_repeated_items_a_target_that_no_list_may_hold_is_a_miss_for_every_model(halves):
    rec, _, test = halves
    queries = queries_of(rec, test)
    again = [query for query in range(len(queries.events)) if queries.targets[query] in queries.history(query)]
    assert len(again) > 5
    oracle = np.zeros((len(queries.events), rec.vocabulary.size), np.float32)
    oracle[np.arange(len(oracle)), queries.targets] = 9
    ranked = rank_queries(task_of(rec, queries), lambda block: oracle[block.start : block.stop].copy())
    assert np.concatenate(ranked.ranks)[again].min() >= rec.vocabulary.size - 1


def test_a_validation_item_is_read_by_every_model_or_by_none():
    """The event before the target, which tuning and early stopping predict, is in every model's history."""
    events = log(rows=600)
    train, test = segue.split_last(events)
    rec = small_recommender(item_vocabulary(events))
    queries = queries_of(rec, test)
    read = []
    spy = Scores(lambda history: read.append(history[-1]) or np.arange(rec.vocabulary.size))
    rank_targets(rec, queries, {"planted": spy})
    whole = encode(events, rec.vocabulary)
    before = {id: int(whole.items[end - 2]) for id, end in zip(whole.users.to_list(), whole.offsets[1:], strict=True)}
    users = [queries.sequences.users[int(user)] for user in queries.users]
    assert [int(row) for row in read] == [before[user] for user in users]
    # The network reads this event, too: another one in its place moves the ranks of all but by chance.
    place = events.table["user"].cast(pl.String).to_list()
    last = {user: n for n, user in enumerate(place)}
    swapped = events.table["item"].cast(pl.String).to_list()
    for user in last:
        own = [n for n, other in enumerate(place) if other == user]
        swapped[own[-2]] = "i000"
    _, other = segue.split_last(events.with_table(events.table.with_columns(item=pl.Series(swapped))))
    scores = [rec.outputs_before(each.sequences, np.isin(np.arange(len(each.sequences.items)), each.events)) for each in (queries, queries_of(rec, other))]  # fmt: skip  # noqa: E501
    assert (np.abs(scores[0] - scores[1]).max(axis=1) > 1e-4).mean() > 0.9
    # And baselines learn it: what was validation is fitted once the settings are chosen.
    fitted = _tune(TrainingData(encode(train, rec.vocabulary), rec.vocabulary.size), Popularity)[1]
    counts = np.bincount(encode(train, rec.vocabulary).items, minlength=rec.vocabulary.size)
    np.testing.assert_allclose(fitted.popularity * counts.sum(), counts, rtol=1e-5)


def test_settings_are_tuned_without_a_test_event(halves, monkeypatch):
    rec, train, test = halves
    monkeypatch.setattr(registry, "call_each", lambda function, given, keys, heard, **_: (function(given, key, tell=heard) for key in keys))  # fmt: skip  # noqa: E501
    turned = test.with_table(test.table.with_columns(pl.col("item").reverse()), history=test.history)
    names = [list(segue.evaluate(rec, each, train=train, baselines=["recent"]).rows) for each in (test, turned)]
    assert names[0] == names[1] != ["segue", RecentPopularity().name]
