"""law: a network with its constants put together says what its definition says, for any of its parts."""

import numpy as np
import pytest

from segue.kernels import build
from segue.model.backend import map_tree
from segue.model.cells import Linear
from segue.model.network import Network
from segue.model.time_encoding import Clock
from segue.recommend.batch import _flat
from segue.recommend.fused_inference import FusedInference
from segue.recommend.index.blocked_matmul import FEW


def drawn(rng, **parts):
    """A network whose every weight counts."""
    settings = {"depth": 2, "clock": Clock(1e6), "details": 5, "asked": 3, "taps": 4} | parts
    network = Network(Linear(settings.pop("taps")), items=300, **{"width": 8} | settings)
    noise = np.float32(
        {True: 0.3, False: 0.1, "clip": 0.05}[network.norm] * (8 / network.width) ** 0.5
    )  # without norms products of large numbers would round much
    params = map_tree(lambda a: a + rng.normal(size=a.shape).astype(np.float32) * noise, network.init(0))
    return network, params._replace(items=params.items * (60 if network.norm == "clip" else 1))


@pytest.mark.parametrize(
    "parts",
    [
        *({}, {"clock": None}, {"details": 0, "asked": 0}, {"depth": 1}, {"taps": 1}, {"taps": 2, "expand": 3}),
        *({"norm": False}, {"norm": False, "width": 40}, {"width": 32, "taps": 1}),
        {"norm": "clip"},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("compiled", [True, False])
def test_law_step_question_and_scores_are_those_of_the_network(parts, batch, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(build, "serving", lambda: None)
    elif build.serving() is None:
        pytest.skip("no C compiler: the pure code is used")
    rng = np.random.default_rng(batch)
    network, params = drawn(rng, **parts)
    longest = []
    fused, memory = FusedInference(network, params), network.start(params, batch)
    rows = _flat(memory)
    assert fused.fits
    every = (0.0, 3.7, 1e5, 1e9, np.nan)
    for gap in every[:2] if network.norm == "clip" else every:  # products of large numbers round much
        gaps = np.full(batch, gap, np.float32)
        gaps[0] = 12.0
        items = rng.integers(0, network.items, batch).astype(np.int32)
        details = rng.normal(size=(batch, network.details)).astype(np.float32) if network.details else None
        before = rows.copy()
        memory = network.step(params, memory, items, gaps, details)
        after = fused.step(rows, items, gaps, details)
        np.testing.assert_array_equal(rows, before)  # an old state stays good
        rounding = 5e-4 if network.norm == "clip" else 1e-4
        most = max(1.0, float(np.abs(after).max()))
        np.testing.assert_allclose(after, _flat(memory), rtol=rounding, atol=rounding * most)
        wanted = network.query(params, memory.output, gaps, details)
        query = fused.query(after[:, -network.read_width :], gaps, details)
        np.testing.assert_allclose(query, wanted, rtol=rounding / 5, atol=rounding / 5 * most)
        scores = network.scores(params, query)
        np.testing.assert_allclose(fused.scores(query), scores, rtol=2e-5, atol=1e-4)
        assert after.dtype == query.dtype == fused.scores(query).dtype == np.float32
        rows = after
        longest.append(float(np.sqrt(np.mean(after[:, -network.width :] ** 2, axis=1)).max()))
    assert network.norm != "clip" or max(longest) > 3.0  # something was clipped


@pytest.mark.parametrize("queries", [1, FEW, FEW + 1])
def test_law_scores_of_few_and_of_many_are_the_same(queries):
    rng = np.random.default_rng(0)
    network, params = drawn(rng)
    query = rng.normal(size=(queries, network.width)).astype(np.float32)
    np.testing.assert_allclose(FusedInference(network, params).scores(query), network.scores(params, query), atol=1e-4)


def test_networks_with_more_in_them_are_stepped_by_definition():
    network, params = drawn(np.random.default_rng(0), session=1800.0)
    assert not FusedInference(network, params).fits
