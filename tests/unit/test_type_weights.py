"""A weight of a type that the log does not have, or that cannot be learnt with, is refused in words."""

import numpy as np
import polars as pl
import pytest

import segue
from segue.errors import ColumnError, ConfigError

LOG = pl.DataFrame(
    {
        "user": [f"u{n // 8}" for n in range(160)],
        "item": [f"i{(n // 8 + n) % 9}" for n in range(160)],
        "time": range(160),
        "type": ["view", "view", "buy", None] * 40,
    }
)
QUICK = {"model.width": 4, "train.epochs": 1, "model.transitions": False}


def trained(weights, table=LOG):
    return segue.train(segue.read_events(table), config=QUICK | {"train.type_weights": weights})


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("bought:3", r'expected types of table \(view, buy\), came "bought". Did you mean buy\?'),
        ("buy:3,Views:2", r'came "Views". Did you mean view\?'),
        ("buy:1e9", r"expected weights of 0 or from 0.001 to 1,000, came 1e\+09 for buy"),
        ("buy:inf", r"came inf for buy"),
        ("buy:1e-9", r"came 1e-09 for buy"),
        ("buy:nan", r'^config train.type_weights: expected type:weight.*came "buy:nan". Write "buy:3,view:0.5"\.$'),
        ("buy:-1", "with weights from 0"),
        ("buy:2,buy:3", "each type once"),
        ("buy", 'came "buy"'),
        (":3", 'came ":3"'),
    ],
)
def test_a_weight_that_cannot_be(weights, words):
    with pytest.raises(ConfigError, match=words):
        trained(weights)


def test_nothing_to_learn_is_refused():
    typed = LOG.with_columns(pl.col("type").fill_null("view"))
    with pytest.raises(ConfigError, match=r'"buy:0,view:0", by which none of the \d+ does. Give one of their'):
        trained("buy:0,view:0", typed)
    last = LOG.with_columns(type=pl.when(pl.int_range(160) % 8 == 7).then(pl.lit("buy")).otherwise(pl.lit("view")))
    with pytest.raises(ConfigError, match="by which none of the 140 does"):  # what counts is kept for validation
        trained("view:0", last)


def test_ratings_alone_have_no_weights():
    rated = LOG.with_columns(rating=pl.int_range(160) % 5 + 1.0)
    with pytest.raises(ConfigError, match=r"came rating, in which all events count alike. Train with --task both"):
        segue.train(segue.read_events(rated), config=QUICK | {"train.type_weights": "buy:3", "train.task": "rating"})


@pytest.mark.parametrize("table", [LOG.drop("type"), LOG.with_columns(type=pl.lit(None, pl.String))])
def test_a_log_without_types_is_refused(table):
    with pytest.raises(ColumnError, match=r"table: expected a column of types for the weights, the log has none\."):
        trained("buy:3", table)


def test_what_a_log_has_is_weighed():
    plain, weighed = trained(""), trained("buy:3,view:0.5")
    assert not np.array_equal(plain.params.items, weighed.params.items)
    many = LOG.with_columns(type=(pl.int_range(160) % 40).cast(pl.String))
    with pytest.raises(ConfigError, match=r"and 28 more\), came \"x\""):
        trained("x:2", many)
