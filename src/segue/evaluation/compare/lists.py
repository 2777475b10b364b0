"""The report of the lists of several models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.log.rating_columns import ratings_of
from segue.data.sequences.sequences import sequence_order
from segue.evaluation.compare.given_lists import GivenLists
from segue.evaluation.compare.job import ReportJob
from segue.evaluation.comparison_report.compared import Compared, Ranked, rows_of
from segue.evaluation.comparison_report.lists import calibration_of
from segue.evaluation.comparison_report.numbers import numbers_of
from segue.evaluation.comparison_report.report import ComparisonReport
from segue.evaluation.protocols import Measurement, gaps_of, report_of, scorer_of, task_of
from segue.evaluation.queries import BLOCK, Queries
from segue.evaluation.ratings import measure_ratings, rating_report_of
from segue.kernels.serving_loops import leave_out, log_sums, top_k
from segue.metrics.metrics import next_item_metrics
from segue.shapes import Rows, Times

#: Queries on which the calibration is measured, evenly spread over half as many users.
CALIBRATED = 2000
RequestTime = Literal["unknown", "event"]


@dataclass(frozen=True, eq=False)
class ListsJob(ReportJob):
    """A report of lists; `measurements` are what each model ranked."""

    measurements: Mapping[str, Measurement]
    request_time: RequestTime
    ks: tuple[int, ...]
    cases: int
    given: Mapping[str, GivenLists]

    def report(self) -> ComparisonReport:
        """Return the report with all numbers."""
        ks = sorted({*self.ks, 10})
        reports = {
            name: report_of(each, ks, self.recs[name].vocabulary.size) for name, each in self.measurements.items()
        }
        rows = {name: each.rows["segue"] for name, each in reports.items()}
        rows |= {name: row for name, row in reports[self.first].rows.items() if name != "segue"}
        measured, notes = self.with_given(self.ranked(), rows, ks)
        about = self.about(
            measured,
            protocol=self.measurements[self.first].protocol,
            notes=[*reports[self.first].notes, *self.differences(), *notes],
            calibration={name: self.calibration(name) for name in self.recs},
            ratings=self.ratings(),
            request_time=self.request_time,
        )
        return ComparisonReport(numbers_of(measured, rows, about, ks=ks, cases=self.cases))

    def ranked(self) -> Compared:
        """Return the held-out events with the ranks and lists of all models."""
        queries = self.measurements[self.first].queries
        targets = {name: each.queries.targets for name, each in self.measurements.items()}
        lengths = queries.events - queries.sequences.offsets[queries.users]
        gaps = None if queries.sequences.times is None else gaps_of(queries, range(len(lengths)))
        measured = self.measured(
            queries.users,
            queries.events,
            targets,
            lengths=lengths,
            gaps=gaps,
            more=[each.items for each in self.given.values()],
        )
        models: dict[str, Ranked] = {}
        for name, measurement in self.measurements.items():
            vocabulary = pl.concat([pl.Series([""]), self.recs[name].vocabulary.ids.cast(pl.String)])
            own = rows_of(measured.items, vocabulary)
            for other, each in measurement.rankings.items():
                ranks, lists = np.concatenate(each.ranks), own[np.concatenate(each.lists)]
                models[name if other == "segue" else other] = Ranked(ranks, lists, targets[name] > 0, other == "segue")
        return replace(measured, models=dict(sorted(models.items(), key=lambda pair: not pair[1].is_model)))

    def with_given(
        self, measured: Compared, rows: dict[str, dict[str, float]], ks: Sequence[int]
    ) -> tuple[Compared, list[str]]:
        """Return the same beside the lists of other libraries, and notes; `rows` get their metrics."""
        if not self.given:
            return measured, []
        notes, found, n_items = list[str](), dict[str, Ranked](), self.recs[self.first].vocabulary.size
        for name, lists in self.given.items():
            found[name], said = lists.ranked(measured, self.numbers_of_events(measured), n_items)
            notes += said
            shown = np.unique(found[name].lists)
            own = rows_of(measured.items, self.recs[self.first].vocabulary.ids.cast(pl.String))
            covered = {"coverage@10": float(np.isin(shown[shown > 0], own).sum() / len(own))}
            rows[name] = next_item_metrics(found[name].ranks, [k for k in ks if k <= lists.longest]) | covered
            if self.recs[self.first].repeats == "exclude" and (share := _seen(measured, found[name].lists)):
                notes.append(f"{name} lists seen items at {share:.1%} of its places, which {self.first} leaves out.")
        models = dict(sorted({**measured.models, **found}.items(), key=lambda pair: not pair[1].is_model))
        return replace(measured, models=models), notes

    def numbers_of_events(self, measured: Compared) -> Times:
        """Return int64[query], which held-out event of its user each is, from 1."""
        whole, held = self.test.joined_with_marks()
        before = np.concatenate([[0], np.cumsum(held.to_numpy()[sequence_order(whole)])])
        return before[measured.places + 1] - before[measured.begins]

    def differences(self) -> list[str]:
        """Return a sentence for each way in which the models were not measured alike."""
        catalogues = {len(rec.vocabulary) for rec in self.recs.values()}
        notes = []
        if len(catalogues) > 1:
            sizes = ", ".join(f"{name} {len(rec.vocabulary):,}" for name, rec in self.recs.items())
            notes.append(f"The models rank catalogues of different sizes: {sizes}. A smaller one is easier.")
        if len({rec.repeats for rec in self.recs.values()}) > 1:
            policies = ", ".join(f"{name}: {rec.repeats}" for name, rec in self.recs.items())
            notes.append(f"The models differ in whether lists hold seen items ({policies}).")
        return notes

    def calibration(self, name: str) -> dict[str, Any] | None:
        """Return how often items came next that a model said would come with some chance; None for ratings alone."""
        rec, queries = self.recs[name], self.measurements[name].queries
        some = np.unique(np.linspace(0, len(queries.sequences) - 1, CALIBRATED // 2).astype(np.int64))
        of_some = np.flatnonzero(np.isin(queries.users, some))
        sample = of_some[np.unique(np.linspace(0, len(of_some) - 1, CALIBRATED).astype(np.int64))]
        queries = _some(queries, sample)
        task, score = task_of(rec, queries), scorer_of(rec, queries, at_event=self.request_time == "event")
        chances, hits, losses = [], [], []
        for begin in range(0, len(sample), BLOCK):
            block = range(begin, min(begin + BLOCK, len(sample)))
            targets = queries.targets[block.start : block.stop]
            scores = leave_out(score(block), task.excluded(block))
            best, sums = top_k(np.ascontiguousarray(scores), 10), log_sums(scores)
            chances.append(np.where(best.places > 0, np.exp(best.scores - sums[:, None]), 0.0))
            hits.append((best.places == targets[:, None]) & (best.places > 0))
            of_targets = scores[np.arange(len(targets)), targets]
            losses.append((sums - of_targets)[np.isfinite(of_targets)])
        return calibration_of(np.concatenate(chances), np.concatenate(hits), np.concatenate(losses))

    def ratings(self) -> dict[str, Any]:
        """Return the report of the predicted ratings of each model that learnt ratings."""
        rated = np.isfinite(ratings_of(self.test.table)).any()
        able = {name: rec for name, rec in self.recs.items() if rated and rec.network.rating is not None}
        return {
            name: rating_report_of(measure_ratings(rec, self.test, users=self.users)).to_dict()
            for name, rec in able.items()
        }


def _seen(measured: Compared, lists: Rows) -> float:
    """Return the share of the places of lists that hold an item of the history."""
    size, places = np.int64(len(measured.items)), lists > 0
    lengths = measured.places - measured.begins
    query = np.repeat(np.arange(len(lengths)), lengths)
    events = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + measured.begins[query]
    had = np.isin(np.arange(len(lists))[:, None] * size + lists, query * size + measured.rows[events])
    return float((had & places).sum() / max(places.sum(), 1))


def _some(queries: Queries, wanted: NDArray[np.int64]) -> Queries:
    """Return some of the queries, with the sequences of their users alone."""
    users, new = np.unique(queries.users[wanted], return_inverse=True)
    sequences = queries.sequences.select(users)
    places = queries.events[wanted] - queries.sequences.offsets[queries.users[wanted]]
    return Queries(sequences, places + sequences.offsets[new], new)
