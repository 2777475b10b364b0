"""The cost of a run is known before it begins, and one that cannot fit is refused with what would."""

import pytest

import segue
from segue.config import DataSize, configure, derive
from segue.data.log import synthetic
from segue.model.cells import CELLS, make_cell
from segue.model.network import Network
from segue.training.cost import check_memory, memory_available, memory_needed, operations_per_target


def settings(items, **given):
    size = DataSize(events=1_000_000, users=1000, items=items, has_times=False, share_of_repeats=0.0)
    return derive(configure(given), size)


def test_a_run_that_cannot_fit_names_the_width_that_does():
    network = Network(make_cell("linear"), 10_000_000, 128, 2)
    with pytest.raises(segue.errors.TrainingError, match=r"needs about 2\d\.\d GiB .* --set model\.width=64 fits"):
        check_memory(network, settings(10_000_000), 1000, available=16.0)
    with pytest.raises(segue.errors.TrainingError, match="no width fits"):
        check_memory(network, settings(10_000_000), 1000, available=0.5)
    check_memory(network, settings(10_000_000), 1000, available=64.0)


def test_training_asks_before_it_begins(monkeypatch):
    monkeypatch.setattr("segue.training.cost.memory_available", lambda: 0.1)
    with pytest.raises(segue.errors.TrainingError, match=r"0\.1 GiB of free memory"):
        segue.train(segue.read_events(synthetic.ring().events))


def test_training_says_its_plan_and_keeps_the_details():
    said = []
    rec = segue.train(
        segue.read_events(synthetic.ring().events), config={"train.epochs": 1, "model.width": 8}, say=said.append
    )
    begin = next(i for i, line in enumerate(said) if line.startswith("Training for up to 1 epoch ("))
    assert said[begin].endswith(" each). Details: `segue info`.")
    assert said[begin + 1].startswith("Validating after each epoch on the last event of ")
    assert said[begin + 2].startswith("Compiling the model (first run: a few seconds).")
    assert said[begin + 3] == "Tuning the blend with transition counts on validation data."
    assert rec.facts["training"].startswith("linear, 2 blocks of width 8, with time features; softmax over all ")


def test_memory_grows_with_items_and_events_and_sampling_needs_no_gradient_of_the_table():
    network = Network(make_cell("linear"), 1_000_000, 64, 2)
    full, sampled = settings(1_000_000, **{"train.negatives": 0}), settings(1_000_000)
    assert sampled.train.negatives == 2048
    assert memory_needed(network, full, 10) > memory_needed(network, sampled, 10)
    assert memory_needed(network, full, 10**9) > memory_needed(network, full, 10) + 10
    assert 0 < memory_available() < 1e6


@pytest.mark.parametrize("name", CELLS)
def test_operations_are_six_for_every_weight_that_multiplies(name):
    network = Network(make_cell(name), 100, 16, 3, expand=4)
    block = network.init(0).blocks[0]
    cell = {"linear": 2, "gru": 6, "lstm": 8, "simple_rnn": 2}[name] * 16 * 16
    inside = block.w_in.size + block.w_out.size + block.w_up.size + block.w_down.size
    assert operations_per_target(network, 100) == 6 * (3 * (inside + cell) + 100 * 16)
