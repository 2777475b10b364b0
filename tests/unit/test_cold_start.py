"""Cold start against questions asked one by one through the recommender's own calls."""

import json
import re

import numpy as np
import polars as pl
import pytest

from segue.data.log.events import Events
from segue.data.log.split import digest, split_by_time, split_users
from segue.data.sequences.sequences import encode, item_vocabulary
from segue.errors import ArgumentError, EvaluationError
from segue.evaluation.baselines.counting import Popularity
from segue.evaluation.cold_start import by_history
from tests_support import small_recommender


def log(rows=260, seed=0):
    rng = np.random.default_rng(seed)
    table = pl.DataFrame({"user": rng.integers(0, 25, rows).astype(str), "item": rng.integers(0, 40, rows).astype(str)})
    return Events(table.with_columns(time=np.sort(rng.integers(0, 10**12, rows))))


def parts(repeats="exclude"):
    train, test = split_users(log(), share=0.4)
    return small_recommender(item_vocabulary(train), repeats=repeats), train, test


def slow_rank(rec, shown, seen, target):
    """Ask for the whole catalogue from the state after the events shown; a miss has the last rank."""
    state = rec.start()
    for row in shown:
        state = rec.observe(state, row["item"], time=row["time"] / 1e6)
    left_out = {row["item"] for row in seen} if rec.repeats == "exclude" else set()
    line = rec.recommend(state, k=len(rec.items), exclude=left_out, repeats="allow")
    names = [item.item for item in line]
    return names.index(target) + 1 if target in names else len(rec.items)


def ndcg(ranks):
    return np.mean([1 / np.log2(rank + 1) if rank <= 10 else 0 for rank in ranks])


@pytest.mark.parametrize("repeats", ["exclude", "allow"])
def test_both_tables_equal_asking_user_by_user(repeats):
    rec, _, test = parts(repeats)
    found = by_history(rec, test, counts=(0, 1, 4))
    users = [rows.to_dicts() for rows in test.table.partition_by("user", maintain_order=True)]
    for row in found.first:
        able = [one for one in users if len(one) > row.events]
        ranks = [slow_rank(rec, one[: row.events], one[: row.events], one[row.events]["item"]) for one in able]
        assert row.queries == len(able)
        assert row.models["segue"]["ndcg@10"] == pytest.approx(ndcg(ranks))
        assert row.models["segue"]["hr@10"] == pytest.approx(np.mean(np.array(ranks) <= 10))
    long = [one for one in users if len(one) > 4]
    assert [row.events for row in found.last] == [0, 1, 4, None]
    for row in found.last:
        shown = [one[:-1] if row.events is None else one[len(one) - 1 - row.events : -1] for one in long]
        ranks = [slow_rank(rec, some, one[:-1], one[-1]["item"]) for some, one in zip(shown, long, strict=True)]
        assert row.queries == len(long)
        assert row.models["segue"]["ndcg@10"] == pytest.approx(ndcg(ranks))


def test_baselines_answer_the_same_questions_and_what_is_missing_is_said():
    rec, train, test = parts()
    found = by_history(rec, test, counts=(0, 3), train=train)
    names = {name.partition(" (")[0] for name in found.first[0].models}
    assert {"segue", "popularity", "item-kNN", "EASE"} <= names
    assert any("content-kNN" in note for note in found.notes)
    popular = [row.models["popularity"]["ndcg@10"] for row in found.last]
    assert popular == [popular[0]] * 3  # the whole history is left out in every row


def test_it_is_a_table_and_plain_values():
    rec, train, test = parts()
    fitted = {"popularity": Popularity().fit(encode(train, rec.vocabulary), rec.vocabulary.size)}
    found = by_history(rec, test, counts=(2, 0, 2), baselines=fitted, notes=("A sentence.",))
    assert json.loads(json.dumps(found.to_dict()))["last"][-1]["events"] is None
    lines = str(found).splitlines()
    assert lines[0].startswith("10 users that training never met, ")
    assert lines[2] == "After the first n events of a user: NDCG@10"
    assert lines[3].split() == ["n", "users", "segue", "popularity"]
    assert [line.split()[0] for line in lines[4:6]] == ["0", "2"]
    assert lines[-2].split()[0] == "all"
    assert lines[-1] == "A sentence."


def test_users_with_a_history_are_not_new():
    table = log().table
    late = pl.DataFrame({"user": ["late", "later", "late"], "item": ["1", "2", "3"], "time": [2 * 10**12] * 3})
    train, test = split_by_time(Events(pl.concat([table, late])), test=0.1)
    rec = small_recommender(item_vocabulary(train))
    assert by_history(rec, test, counts=(0, 1)).first[1].queries == 1
    assert by_history(rec, test, counts=(0,)).first[0].queries == 2
    known = test.with_table(test.table.filter(~pl.col("user").is_in(["late", "later"])), history=test.history)
    with pytest.raises(EvaluationError, match="expected new users with more than 0 events, found 0 new users"):
        by_history(rec, known, counts=(0,))


def learnt_call():
    rec, _, test = parts()
    rec.facts["digest"] = digest(test)
    return by_history(rec, test)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: by_history(*parts()[::2], counts=()), ArgumentError, "expected counts from 0, whole numbers, came ()"),
        (lambda: by_history(*parts()[::2], counts=(-1,)), ArgumentError, "came (-1,)"),
        (lambda: by_history(*parts()[::2], counts=(99,)), EvaluationError, "users with more than 99 events, found 10"),
        (learnt_call, EvaluationError, "came those that the recommender has learnt"),
    ],
)
def test_what_would_not_mean_what_it_says_is_refused(call, error, said):
    with pytest.raises(error, match=re.escape(said)):
        call()
