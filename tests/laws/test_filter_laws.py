"""A filter lets pass what a reader of each line would let pass, whichever way it is written."""

import operator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.data.features.catalogue import Catalogue
from segue.data.features.column_types import columns_of
from segue.data.features.table_encoder import fit_table_encoder
from segue.data.sequences.vocabulary import Vocabulary
from segue.errors import ArgumentError
from segue.recommend.filters.binding import Known
from segue.recommend.filters.expressions import (
    Absent,
    AllOf,
    Among,
    AnyOf,
    Arithmetic,
    Constant,
    Negation,
    Now,
)
from segue.recommend.filters.fields import F, Filter
from segue.recommend.filters.masks import FilterMasks

RNG = np.random.default_rng(7)
N = 60


def some(values):
    return [values[i] for i in RNG.integers(0, len(values), N)]


TABLE = pl.DataFrame(
    {
        "item": [f"{i:02d}" for i in range(N)],
        "title": [f"film {i}" for i in range(N)],
        "genre": some(["Drama", "Comedy", "War", "Drama|War", "Comedy|Drama|Film Noir", None]),
        "brand": some(["acme", "Ö & Co", "none", None]),
        "price": some([0.0, 1.5, 2.0, 20.0, 35.25, None]),
        "old price:float": some([1.5, 20.0, 40.0, None]),
        "released": some([date(2019, 1, 1), date(2020, 2, 29), date(2020, 3, 1), None]),
        "colour": some(["red", "blue"]),
        "stock": some([True, False, None]),
        "tags": some([["a", "b"], ["b"], [], None]),
    }
)
KINDS = {
    "genre": "categories", "brand": "category", "price": "number", "old price:float": "number", "released": "date",
    "stock": "category", "tags": "categories",
}  # fmt: skip
ENCODER = fit_table_encoder(TABLE, KINDS)
NOW = int(datetime(2020, 3, 31, 12, 0, 30, tzinfo=UTC).timestamp() * 1e6)
KNOWN = Known(
    NOW,
    {"likes": ["Drama", "War"], "brand": "acme", "most": 21, "gone": None},
    {"most": 2, "genres": ["Comedy"], "day": "2020-03-01"},
    TABLE.row(4, named=True),
)


def masks_of(catalogue):
    return FilterMasks(Vocabulary(TABLE["item"]), catalogue, columns_of(TABLE.schema, ENCODER.columns))


MASKS = masks_of(Catalogue(TABLE))
TYPES = {
    "genre": ["Drama", "Comedy", "War", "no such"], "brand": ["acme", "Ö & Co"], "stock": [True, False],
    "tags": ["a", "b"], "price": [0, 1.5, 2, 20.0, -3], "old price": [1.5, 20], "item": ["03", "99"], "colour": ["red"],
    "released": [date(2020, 2, 29), "2020-03-01", "2018-01-01"],
}  # fmt: skip
OPERATORS = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def number_terms():
    return st.recursive(
        st.sampled_from([F.price, F["old price"], F.user.most, F.param("most"), F.current.price]),
        lambda inner: st.builds(
            lambda sign, a, b: SIGNS[sign](a, b), st.sampled_from("+-*/"), inner, st.sampled_from([1.2, 2, 0])
        ),
        max_leaves=3,
    )


def conditions():
    def equal(name):
        return st.builds(
            lambda value, same: F[name] == value if same else F[name] != value,
            st.sampled_from(TYPES[name]),
            st.booleans(),
        )

    def isin(name):
        return st.builds(lambda values: F[name].isin(values), st.lists(st.sampled_from(TYPES[name]), max_size=3))

    names = st.sampled_from(sorted(TYPES))
    ordered = st.builds(
        lambda a, sign, b: OPERATORS[sign](a, b),
        number_terms(),
        st.sampled_from(sorted(OPERATORS)),
        st.one_of(number_terms(), st.sampled_from([2, 20.0])),
    )
    dates = st.builds(
        lambda sign, days: OPERATORS[sign](F.released, F.now() - timedelta(days=days)),
        st.sampled_from(sorted(OPERATORS)),
        st.sampled_from([30, 31.25, 400]),
    )
    fixed = st.sampled_from(
        [
            F.genre.isin(F.user.likes), F.brand == F.user.brand, F.genre.isin(F.param("genres")),
            F.brand == F.user.gone, F.released > F.now() - F.user.gone,
            F.released > F.param("day"), F.genre.isin(F.current.genre), F.price.is_missing(), ~F.tags.is_missing(),
            F.released.is_missing(), F.user.gone.is_missing(), F.user.most > 20, F.released - F.now() < timedelta(-31),
        ]
    )  # fmt: skip
    leaves = st.one_of(names.flatmap(equal), names.flatmap(isin), ordered, dates, fixed)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(operator.and_, inner, inner), st.builds(operator.or_, inner, inner), inner.map(operator.invert)
        ),
        max_leaves=5,
    )  # fmt: skip


def seconds(value):
    day = date.fromisoformat(value) if isinstance(value, str) else value
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def values(node, line):
    """The values of a term, read from one line: a list, empty where it is missing."""
    match node:
        case Constant(value=timedelta() as value):
            return [value.total_seconds()]
        case Constant(value=value):
            return [str(value).lower() if isinstance(value, bool) else value]
        case Now():
            return [float(NOW // 60_000_000 * 60)]
        case Arithmetic():
            pairs = [(a, b) for a in values(node.left, line) for b in values(node.right, line)]
            return [SIGNS[node.operator](a, b) for a, b in pairs if not (node.operator == "/" and b == 0)]
    source = {"item": line, "current": KNOWN.current, "user": KNOWN.profile, "$": KNOWN.params}[node.scope]
    value = source.get(node.name, source.get(f"{node.name}:float"))
    if node.scope in ("item", "current") and node.name == "genre":
        return value.split("|") if value else []
    if isinstance(value, list):
        return value
    if isinstance(value, date):
        return [seconds(value)]
    return [] if value is None else [str(value).lower() if isinstance(value, bool) else value]


def dated(found, other):
    """Texts beside dates are dates."""
    is_date = any(isinstance(each, float) and abs(each) > 1e9 for each in other)
    return [seconds(each) if is_date and isinstance(each, str) else each for each in found]


def reference(node, line):
    match node:
        case AllOf():
            return all(reference(part, line) for part in node.of)
        case AnyOf():
            return any(reference(part, line) for part in node.of)
        case Negation():
            return not reference(node.of, line)
        case Absent():
            return not values(node.of, line)
        case Among():
            left = values(node.left, line)
            nodes = node.values if isinstance(node.values, tuple) else (node.values,)
            right = dated([value for each in nodes for value in values(each, line)], left)
            return bool(set(left) & set(right))
    a, b = values(node.left, line), values(node.right, line)
    a, b = dated(a, b), dated(b, a)
    if not a or not b:
        return False
    if node.operator == "!=":
        return not set(a) & set(b)
    return any(OPERATORS[node.operator](x, y) for x in a for y in b)


@settings(max_examples=150, deadline=None)
@given(conditions())
def test_a_filter_passes_what_a_reader_of_each_line_would(wanted):
    assert Filter.of(str(wanted)) == wanted
    passing = MASKS.passing(wanted, KNOWN)
    expected = [reference(wanted.tree, line) for line in TABLE.iter_rows(named=True)]
    assert passing.mask.tolist() == [False, *expected] and passing.count == sum(expected)
    assert MASKS.passing(str(wanted), KNOWN).mask is passing.mask


WORDS = [
    "genre", "price", "released", "`old price`", "user.likes", "current.tags", "$genres", "$x", "now()", "90d", "-2.5",
    "'Drama'", '"2020-03-01"', "true", "(", ")", "and", "or", "not", "in", "is", "missing", "=", "!=", "<", "+", "/",
    ",", "'", "\\", "ß", "1e400",
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)))
def test_a_text_is_a_filter_or_is_refused_with_a_message(text):
    said = ""
    try:
        passing = MASKS.passing(text, KNOWN)
    except ArgumentError as error:
        said = str(error)
    assert said.startswith("where, position ") if said else passing is None or passing.count <= N


def test_a_changed_catalogue_is_filtered_as_one_that_is_read_anew():
    lines = {1: {**TABLE.row(0, named=True), "price": 7.0, "genre": "War", "released": None}}
    changed = Catalogue(TABLE)
    masks_of(changed).passing("price > 1 and genre = 'War' and not released is missing")
    changed = changed.changed(lines)
    plain = Catalogue(changed.table)
    for text in ("price = 7", "genre = 'War'", "released is missing", "price > 'old price'".replace("'", "`")):
        found, anew = masks_of(changed).passing(text), masks_of(plain).passing(text)
        assert found.mask.tolist() == anew.mask.tolist()
    assert masks_of(changed).passing("price = 7").count == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("genr = 'x'", r'position 1: expected an attribute of the items \(.*\), came "genr". Did you mean "genre"\?'),
        ("price < 'cheap'", r'position 9: expected a number, came "cheap"'),
        ("genre < 'x'", "position 7: expected =, != or in after the category genre, came <"),
        ("released > 'soon'", "position 12: expected a date, came"),
        ("released > now() - 90", r"position 18: expected numbers, or a date and a duration, came now\(\)"),
        ("price = released", r"position 9: expected a number, came released \(a date\)"),
        ("price < $low", "position 9: expected a parameter low, came none. Give params"),
        ("price < $most and price <", "position 26: expected a value or a column, came the end"),
        ("price", "position 1: expected a condition"),
        ("price < 3 or (genre = 'x'", r"position 26: expected \) after what is in brackets"),
        ("brand = genre", "position 7: expected a value to compare the category brand with"),
        ("price in $days and", "position 19: expected a value"),
        ("price < 90days", 'position 9: expected a number, or a duration in .* came "90days"'),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, said):
    with pytest.raises(ArgumentError, match=f"where, {said}"):
        MASKS.passing(text, KNOWN)


def test_what_no_item_has_and_what_is_not_known_are_told():
    assert MASKS.passing("genre = 'Comedi'").notes == ('no item has genre "Comedi"; did you mean "Comedy"?',)
    assert MASKS.passing("brand = user.country", KNOWN).notes[0].startswith("user.country is not known")
    with pytest.raises(ArgumentError, match="expected the item being looked at"):
        MASKS.passing("price < current.price", Known(NOW))
    MASKS.check("price < current.price and genre = $genre and released > now() - $age")  # as it is stored
    with pytest.raises(ArgumentError, match="category"):
        MASKS.check("genre < $genre")
    with pytest.raises(TypeError, match="join filters with &"):
        _ = F.price > 3 and F.price < 5
