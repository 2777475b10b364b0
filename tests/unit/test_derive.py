"""What nobody sets follows from the size of the log."""

import pytest

from segue.config import Config, DataSize, configure, derive


@pytest.mark.parametrize(
    ("events", "items", "expected"),
    [
        (100_000, 1_682, (64, 0.4)),  # few events, many of each item
        (150_000, 12_000, (256, 0.5)),  # sparse
        (49_999, 12_000, (64, 0.4)),  # too few to fill a wide network
        (300_000, 6_000, (256, 0.3)),
        (1_000_000, 100_000, (256, 0.3)),
        (5_000_000, 100_000, (128, 0.2)),
    ],
)
def test_width_and_dropout_follow_events_and_density(events, items, expected):
    found = derive(Config(), DataSize(events, 1_000, items, True, 0.0)).model
    assert (found.width, found.dropout) == expected
    small = derive(configure({"model.size": "small"}), DataSize(events, 1_000, items, True, 0.0)).model
    assert small.width == max(64, expected[0] // 2)


def test_ratings_alone_are_learnt_by_a_narrow_network_on_a_sparse_log_too():
    size = DataSize(100_000, 600, 9_700, True, 0.0, rated=True)
    found = derive(configure({"train.task": "rating"}), size).model
    assert (found.width, found.dropout) == (64, 0.5)


def test_there_is_a_norm_for_ratings_alone_or_by_setting():
    size = DataSize(1_000_000, 6_000, 3_700, True, 0.0, rated=True)
    assert derive(Config(), size).experiment.norm == "clip"
    assert derive(configure({"train.task": "rating"}), size).experiment.norm is True
    assert derive(configure({"experiment.norm": True}), size).experiment.norm is True
    assert derive(configure({"experiment.norm": "false"}), size).experiment.norm is False


@pytest.mark.parametrize(
    ("items", "repeated", "settings", "expected"),
    [
        (1_682, 0.0, {}, False),  # lists leave out what was had
        (1_682, 0.5, {}, True),  # they may hold it
        (12_000, 0.0, {}, True),  # sparse
        (12_000, 0.0, {"train.seen_as_negatives": False}, False),
        (1_682, 0.0, {"train.repeats": "allow"}, True),
    ],
)
def test_seen_items_are_negatives_where_lists_may_hold_them_and_on_sparse_logs(items, repeated, settings, expected):
    found = derive(configure(settings), DataSize(150_000, 1_000, items, True, repeated)).train
    assert found.seen_as_negatives is expected
