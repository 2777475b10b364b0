"""A recommender is a value: pickled, copied or sent to another process, it answers as before, whatever it has kept."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

import segue
from segue.recommend.batch import observe_each
from segue.recommend.index.approximate import build_index, exact_index
from segue.store.events import Event
from tests_support import ITEMS, described_log, described_recommender, rated_log, small_rater, small_recommender

LOG = described_log()
NEW = pl.DataFrame({"item": ["90", "91"], "title": ["red car 90", None], "kind": ["a|b", ""], "price": [3.0, None]})
COPIES = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def indexed():
    rec = described_recommender(LOG)
    return rec.with_index(exact_index(rec))


MADE = {
    "ids": small_recommender,
    "described": lambda: described_recommender(LOG),
    "rated": small_rater,
    "added": lambda: described_recommender(LOG).add_items(NEW),
    "index": indexed,
    "index of added": lambda: indexed().add_items(NEW),
    "gru": lambda: small_recommender(cell="gru"),
}


def answers(rec):
    """What a recommender says, after it has computed all that it keeps."""
    state = rec.observe(rec.start(), rec.items[3], time=5)
    packed = observe_each(rec, [state], [Event("", rec.items[4], 9_000_000)])
    if rec.index is not None:
        rec.index.search(np.zeros((300, rec.network.width), np.float32), 3)  # in threads
    lists = [rec.recommend(one, 5, at=10) for one in (state, *packed)]
    return lists, rec.similar(rec.items[2], 3), rec.labels(rec.items[1]), rec.fingerprint, rec.items


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("made", MADE)
def test_a_copy_answers_as_the_recommender_before_its_first_list_and_after(made, how):
    rec = MADE[made]()
    fresh = COPIES[how](rec)
    said = answers(rec)
    used = COPIES[how](rec)
    assert answers(fresh) == answers(used) == said
    assert used.facts == rec.facts and used.learnt == rec.learnt
    assert (used.catalogue and used.catalogue.notes) == (rec.catalogue and rec.catalogue.notes)
    assert used.recommend(rec.start(), 3) == rec.recommend(used.start(), 3)  # states of one mean the same to the other


def test_a_pickle_holds_the_vectors_once_though_the_index_has_them_too():
    rec = indexed()
    assert len(pickle.dumps(rec)) < len(pickle.dumps(rec.with_index(None))) + rec.params.items.nbytes / 2
    back = pickle.loads(pickle.dumps(rec))
    assert back.index.vectors is back.params.items


def test_an_approximate_index_comes_along(tmp_path):
    pytest.importorskip("faiss")
    rec = small_recommender(segue.data.sequences.vocabulary.Vocabulary(pl.Series([str(i) for i in range(300)])))
    rec = rec.with_index(build_index(rec, tmp_path / "m.segue", threads=1))
    assert answers(pickle.loads(pickle.dumps(rec))) == answers(rec)


@pytest.mark.parametrize("how", COPIES)
def test_states_logs_and_reports_are_values_too(how):
    rec = described_recommender(LOG)
    state = rec.observe(rec.start(), "03", time=5)
    (packed,) = observe_each(rec, [state], [Event("", "04", 9_000_000)])
    states = rec.encode(LOG)
    for one in (state, packed, states[0]):
        again = COPIES[how](one)
        assert rec.recommend(again) == rec.recommend(one) and (again.time, again.count) == (one.time, one.count)
        assert len(pickle.dumps(one)) < 20_000  # the weights stay at home
    assert np.array_equal(rec.score(COPIES[how](states)), rec.score(states))
    assert COPIES[how](LOG).table.equals(LOG.table)
    _, test = segue.split_by_time(LOG, test=0.3)
    report = segue.evaluate(rec, test, notes=("in-sample",))
    assert str(COPIES[how](report)) == str(report)
    rater = small_rater()
    shared = rater.observe_shared(rater.shared(), rater.rated(rater.start(), "001", 4.0))
    assert COPIES[how](shared) == shared
    assert COPIES[how](rated_log()).table.equals(rated_log().table)


def test_another_process_reads_it():
    rec = described_recommender(LOG)
    rec.recommend(rec.start())
    code = (
        "import pickle, sys\n"
        "rec = pickle.load(sys.stdin.buffer)\n"
        "sys.stdout.buffer.write(pickle.dumps(rec.recommend(rec.start(), 4)))\n"
        "assert 'jax' not in sys.modules\n"
    )
    found = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(rec), capture_output=True, check=True)
    assert pickle.loads(found.stdout) == rec.recommend(rec.start(), 4)


def test_the_items_of_the_examples_are_what_the_laws_are_about():
    assert set(NEW.columns) == set(ITEMS.columns)
