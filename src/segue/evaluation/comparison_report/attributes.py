"""What is known of each held-out event beside ids, as columns by which its metrics are sliced."""

from collections.abc import Iterator

import polars as pl

from segue.data.features.catalogue import Catalogue, Profiles
from segue.data.features.column_encoders import Categories, ColumnEncoder
from segue.data.features.feature_encoders import FeatureEncoders
from segue.data.features.numeric import Numbers
from segue.data.log.columns import plain_name
from segue.data.values.times import iso
from segue.shapes import Rows

_IDS = ("user", "item", "time", "id")


def attributes_of(
    encoders: FeatureEncoders, catalogue: Catalogue | None, profiles: Profiles | None, test: pl.DataFrame, rows: Rows
) -> pl.DataFrame:
    """Return a row per held-out event: attributes of the item, the profile of the user, columns of the event.

    Args:
        encoders: of a model; they say of which kind a column is. Texts and vectors are left out.
        catalogue: of the same model.
        profiles: of the users, or None.
        test: the held-out events, in the order of the queries.
        rows: int32[query], the row of each item in the vocabulary of the model; 0 unknown.

    Cost: O(items + users + queries).
    """
    columns: list[pl.Series] = []
    if encoders.items is not None and catalogue is not None:
        places = pl.Series(rows.astype("int64") - 1)
        places = places.set(places < 0, None)
        columns += [
            each.gather(places).alias(f"item: {each.name}") for each in _read(encoders.items.columns, catalogue.table)
        ]
    if encoders.users is not None and profiles is not None:
        users = test["user"].cast(pl.String)
        each_once = users.unique(maintain_order=True)
        place = users.replace_strict(each_once, pl.int_range(len(each_once), eager=True))
        table = profiles.rows(each_once)
        columns += [each.gather(place).alias(f"user: {each.name}") for each in _read(encoders.users.columns, table)]
    columns += [test[name].alias(f"event: {plain_name(name)}") for name in test.columns if name not in _IDS]
    return pl.DataFrame({column.name: column for column in columns})


def _read(encoders: tuple[ColumnEncoder, ...], table: pl.DataFrame) -> Iterator[pl.Series]:
    """Give the columns that have kinds of values: lists of words, numbers, or the years of dates."""
    for encoder in encoders:
        if encoder.name not in table.columns:
            continue
        name, column = plain_name(encoder.name), table[encoder.name]
        if isinstance(encoder, Categories):
            words = [[label[len(name) + 1 :] for label in encoder.labels(value)] or None for value in column]
            yield pl.Series(name, words, pl.List(pl.String))
        elif isinstance(encoder, Numbers):
            numbers = [encoder.number(value) for value in column]
            if encoder.kind == "date":
                yield pl.Series(
                    name, [None if each is None else iso(int(each * 1e6))[:4] for each in numbers], pl.String
                )
            else:
                yield pl.Series(name, numbers, pl.Float64)
