"""What is said of gradients and of reach, against finite differences, closed forms and slow loops."""

import numpy as np
import polars as pl
import pytest

import segue
from segue.insight.cell_choices import NAMES, cell_of
from segue.insight.clipping import descend
from segue.insight.gates import gate_openings, half_lives
from segue.insight.gradients import gradient_by_lag, gradient_in_network, input_gradients, last_loss, with_gain
from segue.insight.reach import drawn_histories, lags_up_to, reach
from segue.model.backend import map_tree
from segue.model.cells import Linear, SimpleRNN
from tests_support import small_recommender

D, LANES, STEPS, CLASSES = 3, 2, 5, 4


def drawn(cell, seed=1):
    rng = np.random.default_rng(seed)
    params = map_tree(lambda a: a + rng.normal(0, 0.2, a.shape).astype(np.float32), cell.init(rng, D))
    x = rng.standard_normal((STEPS, LANES, D), dtype=np.float32)
    readout = rng.standard_normal((D, CLASSES), dtype=np.float32)
    return params, x, readout, np.array([1, 3], np.int32)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_finite_difference(name):
    cell = cell_of(name)
    params, x, readout, targets = drawn(cell)
    ours = input_gradients(cell, params, x, readout, targets)
    exact = map_tree(lambda a: a.astype(np.float64), params)
    wide, eps = x.astype(np.float64), 1e-5
    for place in np.ndindex(*x.shape):
        up, down = wide.copy(), wide.copy()
        up[place] += eps
        down[place] -= eps
        difference = last_loss(cell, exact, up, readout, targets) - last_loss(cell, exact, down, readout, targets)
        assert ours[place] == pytest.approx(difference / (2 * eps), abs=2e-5), place


def test_gradient_of_a_linear_recurrence_is_its_closed_form():
    cell = Linear(taps=1)
    params, x, readout, targets = drawn(cell)
    params = params._replace(w_gates=np.zeros_like(params.w_gates))  # gates that read nothing: s = a s + b c, for good
    ours = input_gradients(cell, params, x, readout, targets)
    keep, enter = (1 / (1 + np.exp(-params.b_gates.astype(np.float64)))).reshape(2, D)
    a = np.exp(-8 * np.log1p(np.exp(params.decay)) * keep)
    s = sum(
        a ** (STEPS - 1 - t) * np.sqrt(1 - a**2) * enter * (params.conv[0] * x[t] + params.conv_bias)
        for t in range(STEPS)
    )
    chances = np.exp(s @ readout)
    chances /= chances.sum(axis=1, keepdims=True)
    at_output = (chances - np.eye(CLASSES)[targets]) @ readout.T
    for lag in range(STEPS):
        exact = at_output * a**lag * np.sqrt(1 - a**2) * enter * params.conv[0]
        np.testing.assert_allclose(ours[STEPS - 1 - lag], exact, atol=1e-5)


def test_the_plain_recurrence_vanishes_explodes_and_the_linear_one_does_neither():
    size = {"width": 8, "steps": 41, "batch_size": 4}

    def left(name, **options):
        found = gradient_by_lag(cell_of(name), **size, **options)
        assert found.at == tuple(range(41))
        assert all(low <= mid <= high for low, mid, high in zip(found.low, found.median, found.high, strict=True))
        return found.median[-1] / found.median[0]

    assert left("simple_rnn") < 1e-6 < 50 < left("simple_rnn:relu", gain=2.0)
    assert 1e-2 < left("linear") < 1
    assert left("simple_rnn") < left("lstm") < left("linear")


def test_clipping_keeps_the_direction_and_bounds_the_length():
    clipped = descend(SimpleRNN("relu"), clip=1.0, gain=1.5, updates=12)
    assert len(clipped.loss) == 12 and clipped.before[0] > 1e3
    for before, after in zip(clipped.before, clipped.after, strict=True):
        assert after == pytest.approx(min(before, 1.0), rel=1e-4)
    assert clipped.loss[-1] < clipped.loss[0] / 100
    free = descend(SimpleRNN("relu"), clip=None, gain=1.5, updates=12)
    assert len(free.loss) < 12 and free.before == free.after and free.loss[0] == clipped.loss[0]


def histories(rec, users=5, events=14):
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"{rng.integers(0, 12):03d}", 1000 * t + u) for t in range(events) for u in range(users)]
    return segue.read_events(pl.DataFrame(rows, schema=["user", "item", "time"], orient="row"))


def log_chances(rec, state):
    scores = rec.score(state)[0].astype(np.float64)
    return scores - np.logaddexp.reduce(scores)


@pytest.mark.parametrize("repeats", ["allow", "exclude"])
def test_reach_is_observing_without_one_event(repeats):
    rec = small_recommender(repeats=repeats)
    log = histories(rec)
    found = reach(rec, rec.sequences(log), longest=10)
    assert found.change.at == tuple(lags_up_to(10)) and found.users == 5
    changes, new = {lag: [] for lag in found.change.at}, {lag: [] for lag in found.change.at}
    for user in log.users:
        rows = log.table.filter(pl.col("user") == user).rows(named=True)
        for lag in found.change.at:
            whole, without = rec.start(), rec.start()
            for place, row in enumerate(rows[:-1]):
                whole = rec.observe(whole, row["item"], time=row["time"] / 1e6)
                if place != len(rows) - 2 - lag:
                    without = rec.observe(without, row["item"], time=row["time"] / 1e6)
            target = rec.items.index(rows[-1]["item"])
            changes[lag].append(abs(log_chances(rec, whole)[target] - log_chances(rec, without)[target]))
            seen = {row["item"] for row in rows[:-1]} if repeats == "exclude" else ()
            a, b = (
                [line.item for line in rec.recommend(s, k=10, exclude=seen, repeats="allow")] for s in (whole, without)
            )
            new[lag].append(1 - len(set(a) & set(b)) / 10 if repeats == "allow" else 0.0)
    np.testing.assert_allclose(found.mean, [np.mean(of) for of in changes.values()], atol=1e-4)
    np.testing.assert_allclose(found.change.median, [np.median(of) for of in changes.values()], atol=1e-4)
    if repeats == "allow":
        np.testing.assert_allclose(found.new_in_list, [np.mean(of) for of in new.values()], atol=1e-6)


def test_gradient_in_a_network_is_the_finite_difference_of_its_loss():
    rec = small_recommender()
    sequences = rec.sequences(histories(rec, users=1))
    found = gradient_in_network(rec, sequences, longest=4)
    window, memory = parts_of(rec, sequences, 5)
    wide = map_tree(lambda a: a.astype(np.float64), rec.params)
    x = rec.network.inputs(wide, window).astype(np.float64)
    target = int(sequences.items[-1])

    def loss(x):
        _, output = rec.network.scan_inputs(wide, memory, x, window)
        unknown = np.full(1, np.nan)
        scores = rec.network.scores(wide, rec.network.query(wide, output[-1], unknown))[0, 1:]
        return np.logaddexp.reduce(scores) - scores[target - 1]

    for lag in range(5):
        slope = np.zeros(x.shape[2])
        for channel in range(x.shape[2]):
            up, down = x.copy(), x.copy()
            up[4 - lag, 0, channel] += 1e-5
            down[4 - lag, 0, channel] -= 1e-5
            slope[channel] = (loss(up) - loss(down)) / 2e-5
        assert found.median[lag] == pytest.approx(np.linalg.norm(slope), rel=1e-3)


def parts_of(rec, sequences, steps):
    """Return the last positions of one user and the memory before them, by observing."""
    from segue.model.network import Window

    state = rec.start()
    before = len(sequences.items) - 1 - steps
    for event in range(before):
        time = sequences.times[event] / 1e6
        state = rec.observe(state, rec.vocabulary.id(sequences.items[event]), time=time)
    events = np.arange(before, before + steps)
    gaps = sequences.gaps_before(events, events > 0)
    none = np.zeros((steps, 1), bool)
    return Window(sequences.items[events][:, None], gaps[:, None], none, none), state.memory


@pytest.mark.parametrize("cell", ["gru", "lstm", "linear"])
def test_openings_are_the_gates_of_each_step(cell):
    rec = small_recommender(cell=cell)
    sequences = rec.sequences(histories(rec))
    found = gate_openings(rec, sequences, user=2)
    one = sequences.select(np.array([2]))
    assert found.items == tuple(rec.items[row - 1] for row in one.items) and len(found.blocks) == 2
    state = rec.start()
    for event, (item, time) in enumerate(zip(found.items, one.times / 1e6, strict=True)):
        before, state = state, rec.observe(state, item, time=time)
        memory = [at.memory.cells[0] for at in (before, state)]
        keep = found.blocks[0]["keep"][event]
        if cell == "lstm":
            memory = [at.c for at in memory]
            candidate = (memory[1][0] - keep * memory[0][0]) / found.blocks[0]["enter"][event]
        elif cell == "gru":
            candidate = (memory[1][0] - keep * memory[0][0]) / (1 - keep)
        else:
            continue
        assert (np.abs(candidate) < 1 + 1e-3).all()  # a tanh: only with the true gates does it come out so
    assert half_lives(found.blocks[0]["keep"]).shape == (8,)


def test_drawn_histories_are_plans_by_chance():
    rec = small_recommender(repeats="exclude")
    found = drawn_histories(rec, users=4, events=6, seed=3)
    assert found.lengths.tolist() == [6] * 4
    first = rec.plan(rec.start(), 6, by=segue.Sample(seed=12))
    assert [rec.items[row - 1] for row in found.items[:6]] == [line.item for line in first.items]


def test_a_gain_scales_the_recurrent_matrix_alone():
    params = SimpleRNN().init(np.random.default_rng(0), 4)
    scaled = with_gain(params, 1.5)
    np.testing.assert_allclose(scaled.w_h, 1.5 * params.w_h)
    np.testing.assert_array_equal(scaled.w_x, params.w_x)
    with pytest.raises(segue.SegueError, match="expected a cell with a recurrent matrix, came LinearParams"):
        with_gain(Linear().init(np.random.default_rng(0), 4), 1.5)
