"""What a report says beside its measurement: data card, settings, learning curve, and the events in common rows."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import polars as pl

from segue.config import by_path
from segue.data.features.feature_encoders import attributes_of as features_of
from segue.data.log.events import Events
from segue.data.log.split import digest
from segue.data.sequences.sequences import sequence_order
from segue.data.values.times import iso
from segue.evaluation.comparison_report.attributes import attributes_of
from segue.evaluation.comparison_report.compared import Compared, rows_of
from segue.recommend.arguments import profiles_of
from segue.recommend.recommender import Recommender
from segue.shapes import Floats, Rows, Times

#: Facts of a training that a report shows.
_FACTS = (
    "asked",
    "kinds",
    "source",
    "events",
    "users",
    "range",
    "digest",
    "hold_out",
    "best_epoch",
    "blend",
    "training",
)


@dataclass(frozen=True, eq=False)
class ReportJob:
    """What a report is made of: models by name, and the arguments of `evaluate`."""

    recs: Mapping[str, Recommender]
    test: Events
    train: Events | None
    log: Events | None
    users: object
    command: str | None

    @property
    def first(self) -> str:
        """The name of the first model."""
        return next(iter(self.recs))

    def about(self, measured: Compared, **more: Any) -> dict[str, Any]:
        """Return what every report says beside its measurement."""
        return {
            "data": self.data(measured),
            "settings": {name: settings_of(rec) for name, rec in self.recs.items()},
            "learning": {name: curve_of(rec) for name, rec in self.recs.items()},
            "made": self.made(),
            **more,
        }

    def measured(
        self,
        users: Times,
        places: Times,
        targets: Mapping[str, Rows],
        *,
        lengths: Times,
        gaps: Floats | None,
        more: Sequence[pl.Series] = (),
    ) -> Compared:
        """Return held-out events in the rows of one catalogue of all models, without what the models ranked.

        Args:
            users: int64[query], whose they are.
            places: int64[query], where they stand in the sequences of the whole log.
            targets: name -> int32[query], their items in the rows of each model.
            lengths, gaps: as of `Compared`.
            more: further ids of items.
        """
        whole = self.test.joined_with_history()
        table = whole.as_text()[sequence_order(whole)]
        ids = [pl.Series([""]), *(rec.vocabulary.ids for rec in self.recs.values()), table["item"], *more]
        items = pl.concat([each.cast(pl.String) for each in ids]).unique(maintain_order=True)
        counts = new_users = None
        if self.train is not None:
            learnt = self.train.as_text()
            counts = np.bincount(rows_of(items, learnt["item"]), minlength=len(items))
            new_users = ~table["user"].gather(places).is_in(learnt["user"].unique().to_list()).to_numpy()
        first_rows = np.flatnonzero((table["user"] != table["user"].shift(1)).fill_null(value=True).to_numpy())
        return Compared(
            {},
            items,
            self.titles(),
            table.select("user", "item", *(["time"] if whole.has_times else [])),
            places,
            first_rows[users],
            lengths,
            gaps,
            users,
            counts,
            new_users,
            self.features(items),
            partial(self.attributes, table[places], targets),
        )

    def titles(self) -> dict[str, str]:
        """Return the titles of items by id; those of an earlier model stand before those of a later one."""
        titles: dict[str, str] = {}
        for rec in reversed(list(self.recs.values())):
            if rec.catalogue is not None:
                known = rec.catalogue.table.select("item", "title").drop_nulls()
                titles |= dict(zip(known["item"], known["title"].cast(pl.String), strict=True))
        return titles

    def features(self, items: pl.Series) -> Floats | None:
        """Return float32[row, m], attributes of all items as numbers, from the first model that reads attributes."""
        for rec in self.recs.values():
            known = features_of(rec.catalogue, rec.encoders)
            if known is not None:
                features = np.zeros((len(items), known.shape[1]), np.float32)
                features[rows_of(items, rec.vocabulary.ids)] = known[1:]
                return features
        return None

    def attributes(self, test: pl.DataFrame, targets: Mapping[str, Rows]) -> pl.DataFrame:
        """Return what the model that reads most attributes knows of each held-out event."""
        name = max(self.recs, key=lambda each: sum(part is not None for part in self.recs[each].encoders[:2]))
        rec = self.recs[name]
        return attributes_of(rec.encoders, rec.catalogue, profiles_of(rec.facts, self.users), test, targets[name])

    def data(self, measured: Compared) -> dict[str, Any]:
        """Return the data card: what was read and dropped, the split, what of the test is after the cut."""
        test, train = self.test, self.train
        card: dict[str, Any] = {"source": test.source, "test": _part(test), "notes": list(test.intake.notes)}
        if self.log is not None:
            card["log"] = self.log.findings.to_dict()
        if train is not None:
            card["train"] = _part(train)
            if train.has_times and test.has_times:
                cut = int(train.table["time"][-1])
                after = int((test.table["time"] > cut).sum())
                card["cut"] = {"last_training_event": iso(cut), "after": after, "share": after / len(test)}
        new_items = None if measured.counts is None else int((measured.counts[measured.targets] == 0).sum())
        new_users = None if measured.new_users is None else int(measured.new_users.sum())
        card["queries"] = {"events": len(test), "new_items": new_items, "new_users": new_users, "digest": digest(test)}
        return card

    def made(self) -> dict[str, Any]:
        """Return when, with what, and how the report was made."""
        return {
            "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "segue": version("segue"),
            "python": platform.python_version(),
            "command": self.command,
            "bootstrap": {"draws": 2000, "seed": 0, "level": 0.95},
        }


def _part(events: Events) -> dict[str, Any]:
    """Return the size and the range of a part of a log."""
    part: dict[str, Any] = {"events": len(events), "users": events.table["user"].n_unique()}
    part["items"] = events.table["item"].n_unique()
    if events.has_times and len(events):
        part |= {"first": iso(events.table["time"][0]), "last": iso(events.table["time"][-1])}
    return part


def settings_of(rec: Recommender) -> dict[str, Any]:
    """Return the settings, the seed, the fingerprint and the facts of a model."""
    facts = {name: rec.facts[name] for name in _FACTS if rec.facts.get(name) not in (None, {})}
    if "range" in facts:
        facts["range"] = " to ".join(iso(time) for time in facts["range"])
    return {
        "fingerprint": rec.fingerprint,
        "items": len(rec.vocabulary),
        "facts": facts,
        "settings": by_path(asdict(rec.config)),
    }


def curve_of(rec: Recommender) -> list[dict[str, Any]]:
    """Return the learning curve: epoch, loss, seconds and the validation metrics of each epoch."""
    return [
        {"epoch": row["epoch"] + 1, "loss": row["loss"], "seconds": row["seconds"], **row.get("validation", {})}
        for row in rec.facts.get("curve", [])
    ]
