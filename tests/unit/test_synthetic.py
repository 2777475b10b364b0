"""Made shops are what they say: the same seed the same log, and the law of each holds in every row."""

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.cli import app as cli
from segue.data.log import synthetic
from segue.errors import ArgumentError

SHOPS = {
    "ring": synthetic.ring,
    "markov": lambda seed=0: synthetic.markov(users=50, length=10, seed=seed),
    "copy": lambda seed=0: synthetic.copy(lag=5, seed=seed),
    "noise": lambda seed=0: synthetic.noise(users=50, seed=seed),
    "shop": lambda seed=0: synthetic.shop(users=40, seed=seed),
}


def real(users=250, items=500, seed=0):
    """Return a log with what an expansion must keep: a long tail, uneven users, ties, pauses, repeats, habits."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(2 + rng.zipf(1.6, users), 200)
    user = np.repeat(np.arange(users), lengths)
    item = np.minimum(rng.zipf(1.5, len(user)) - 1 + rng.integers(0, 40, len(user)), items - 1)
    for at in np.flatnonzero(rng.random(len(user)) < 0.5):
        if at and user[at] == user[at - 1]:
            item[at] = (item[at - 1] * 7 + 3) % items
    gaps = np.where(rng.random(len(user)) < 0.1, 86_400, rng.integers(0, 3, len(user)) * 30)
    time = np.cumsum(gaps) - np.cumsum(gaps)[np.searchsorted(user, user)] + 1_000 * user + 1_600_000_000
    columns = {"user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item], "time": time}
    return segue.read_events(pl.DataFrame(columns | {"rating": rng.integers(1, 6, len(user))}))


@pytest.fixture(scope="module")
def expansion(tmp_path_factory):
    """A log, and 20 copies of its users over 4 copies of its items."""
    log, path = real(), tmp_path_factory.mktemp("expansion") / "large.parquet"
    synthetic.expand(log, path, users=20, items=4)
    return log, pl.read_parquet(path), path


def walks(events):
    """Return each user's items in order of time."""
    ordered = events.sort("time").group_by("user", maintain_order=True).agg("item")
    return [[int(item[1:]) for item in one] for one in ordered["item"].to_list()]


@pytest.mark.parametrize("name", SHOPS)
def test_same_seed_same_log_and_another_seed_another(name):
    one, same, other = SHOPS[name](seed=3), SHOPS[name](seed=3), SHOPS[name](seed=4)
    assert one.events.equals(same.events)
    assert not one.events.equals(other.events)
    assert len(segue.read_events(one.events)) == one.events.height


def test_ring_goes_on_by_one():
    steps = np.diff(walks(synthetic.ring(items=7, length=20).events), axis=1) % 7
    assert (steps == 1).all()


def test_copy_gives_the_cue_back_after_the_signal_and_nothing_else_reveals_it():
    lag, items, fillers = 9, 8, 5
    shop = synthetic.copy(lag=lag, items=items, fillers=fillers, users=4000, rounds=2)
    rounds = np.array(walks(shop.events)).reshape(-1, lag + 1)
    np.testing.assert_array_equal(rounds[:, -1], rounds[:, 0])
    assert set(rounds[:, -2]) == {items + fillers}
    assert set(np.unique(rounds[:, 0])) == set(range(items))
    assert set(np.unique(rounds[:, 1:-2])) == set(range(items, items + fillers))
    before, now = rounds[::2, 0], rounds[1::2, 0]
    assert (before == now).mean() == pytest.approx(1 / items, abs=0.03)
    for place in range(1, lag - 1):
        chance = [(rounds[rounds[:, place] == filler, 0] == 0).mean() for filler in range(items, items + fillers)]
        np.testing.assert_allclose(chance, 1 / items, atol=0.05)


def test_markov_rows_are_chances_and_the_log_follows_them():
    shop = synthetic.markov(items=4, users=500, length=60, concentration=1.0)
    np.testing.assert_allclose(shop.transitions.sum(axis=1), 1.0)
    walk = np.array(walks(shop.events))
    counts = np.zeros((4, 4))
    np.add.at(counts, (walk[:, :-1], walk[:, 1:]), 1)
    np.testing.assert_allclose(counts / counts.sum(axis=1, keepdims=True), shop.transitions, atol=0.03)


def test_noise_has_no_order():
    walk = np.array(walks(synthetic.noise(items=5, users=2000, length=10).events))
    counts = np.zeros((5, 5))
    np.add.at(counts, (walk[:, :-1], walk[:, 1:]), 1)
    np.testing.assert_allclose(counts / counts.sum(), 1 / 25, atol=0.005)


def test_shop_sells_nothing_twice_to_one_and_its_catalogue_names_everything():
    shop = synthetic.shop(users=60)
    assert all(len(set(one)) == len(one) for one in walks(shop.events))
    assert set(shop.events["item"]) <= set(shop.catalogue["item"])
    assert shop.catalogue["title"].is_unique().all()
    assert shop.events["rating"].is_between(1, 5).all()


def test_the_same_seed_expands_to_the_same_bytes(expansion, tmp_path):
    log, _, path = expansion
    for seed in (0, 1):
        synthetic.expand(log, tmp_path / f"{seed}.parquet", users=20, items=4, seed=seed)
    assert (tmp_path / "0.parquet").read_bytes() == path.read_bytes() != (tmp_path / "1.parquet").read_bytes()


def test_an_expanded_log_is_written_in_parts_that_meet(expansion, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "_ROWS", 20_000)
    synthetic.expand(expansion[0], tmp_path / "parts.parquet", users=20, items=4)
    assert pl.read_parquet(tmp_path / "parts.parquet").equals(expansion[1])


def test_an_expanded_user_is_a_real_user_in_other_blocks_of_items(expansion):
    log, large, _ = expansion
    assert large["time"].is_sorted() and large.height == 20 * len(log)
    frequent = {id: n for n, id in enumerate(log.table["item"].value_counts(sort=True)["item"].to_list())}
    counts = log.table["item"].value_counts(sort=True)["count"]

    def lives(table, user, item):
        """Return of each user: gaps, ratings, how frequent the items are, and which of the items is each."""
        lists = table.group_by(user, maintain_order=True).agg(pl.col("time").diff(), "rating", item)
        found = []
        for _, gap, rating, ids in lists.iter_rows():
            first = {id: n for n, id in reversed(list(enumerate(ids)))}
            often = [counts[id % len(counts) if isinstance(id, int) else frequent[id]] for id in ids]
            found.append(str((gap[1:], rating, often, [first[id] for id in ids])))
        return sorted(found)

    timed = log.as_text().with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))
    assert lives(large, "user", "item") == sorted(20 * lives(timed, "user", "item"))
    early = large.group_by("user").agg(pl.col("time").min())["time"].sort().dt.epoch("us").to_numpy()
    real = np.repeat(log.table.group_by("user").agg(pl.col("time").min())["time"].sort().to_numpy(), 20)
    assert (early >= real).all() and (early - real).max() < 3600e6 and len(np.unique(early - real)) > 1000


def test_blocks_are_filled_by_the_reduced_matrix(expansion):
    log, large, _ = expansion
    (user, users), (item, items) = (synthetic._numbered(log.table[name]) for name in ("user", "item"))
    counts = np.zeros((20, 4))
    np.add.at(counts, (large["user"] // users, large["item"] // items), 1)
    shares = synthetic.reduced(user, item, 20, 4)
    assert np.square(counts / len(log) - shares).mean() ** 0.5 < 0.04  # a copy makes some 450 draws
    assert shares.std(axis=0).min() > 0.1


def test_a_reduced_matrix_keeps_who_takes_what():
    user, place = (axis.ravel() for axis in np.indices((8, 6)))
    halves = synthetic.reduced(user, place + 6 * (user >= 4), 4, 2)
    np.testing.assert_allclose(halves, [[1, 0], [1, 0], [0, 1], [0, 1]], atol=1e-9)
    vectors = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 4)))[0]
    np.testing.assert_allclose(synthetic._resized(vectors, 30), vectors, atol=1e-12)
    fewer = synthetic._resized(vectors, 9)
    np.testing.assert_allclose(fewer.T @ fewer, np.eye(4), atol=1e-12)


def figures(table):
    """Return of a log: the slope of its tail, its share of repeats, and hits of counted pairs on the last events."""
    often = table["item"].value_counts(sort=True)["count"].to_numpy()
    ranks = np.arange(len(often) // 50 + 1, len(often) // 2)
    slope = np.polyfit(np.log(ranks), np.log(often[ranks]), 1)[0]
    repeats = 1 - table.select(pl.struct("user", "item").n_unique()).item() / len(table)
    steps = table.sort("user", maintain_order=True).select("user", "item")
    steps = steps.with_columns(next=pl.col("item").shift(-1).over("user"), left=pl.row_index().reverse().over("user"))
    counts = steps.filter(pl.col("left") > 1).group_by("item", "next").len().sort("len", "next", descending=True)
    best = counts.group_by("item", maintain_order=True).head(1).with_columns(hit=1.0)
    asked = steps.filter(pl.col("left") == 1)
    return slope, repeats, asked.join(best, on=["item", "next"], how="left")["hit"].fill_null(0.0).mean()


def test_an_expansion_keeps_the_distributions(expansion):
    log, large, _ = expansion
    (slope, repeats, hits), expanded = figures(log.as_text()), figures(large)
    assert expanded[0] == pytest.approx(slope, abs=0.1)
    assert expanded[1] == pytest.approx(repeats) and repeats > 0.1
    assert expanded[2] == pytest.approx(hits, rel=0.25) and hits > 0.3


def test_a_log_without_times_is_expanded_in_its_order(tmp_path):
    log = segue.read_events(pl.DataFrame({"user": [1, 2, 1], "item": ["x", "y", "z"]}), time="none")
    synthetic.expand(log, tmp_path / "large.parquet", users=3, items=1)
    assert pl.read_parquet(tmp_path / "large.parquet").rows() == [
        (0, 0), (2, 0), (4, 0), (1, 1), (3, 1), (5, 1), (0, 2), (2, 2), (4, 2)
    ]  # fmt: skip


def test_expanding_on_the_command_line(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,time\na,x,5\nb,x,6\na,y,7\n")
    asked = ["datasets", "expand", str(tmp_path / "log.csv"), "--users", "4", "-o", str(tmp_path / "large.parquet")]
    done = CliRunner().invoke(cli.app, asked)
    assert done.exit_code == 0 and "12 events of 8 users" in done.output
    assert len(segue.read_events(tmp_path / "large.parquet")) == 12
    done = CliRunner().invoke(cli.app, [*asked[:-1], str(tmp_path / "large.csv")])
    assert done.exit_code == 1 or "ends in .parquet" in str(done.exception)
    with pytest.raises(ArgumentError, match="1 or more copies"):
        synthetic.expand(real(5), tmp_path / "none.parquet", users=0, items=1)
