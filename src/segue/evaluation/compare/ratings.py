"""The report of the predicted ratings of several models."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segue.data.log.rating_columns import ratings_of
from segue.data.sequences.sequences import sequence_order
from segue.evaluation.compare.job import ReportJob
from segue.evaluation.comparison_report.compared import Compared
from segue.evaluation.comparison_report.numbers import rating_numbers_of
from segue.evaluation.comparison_report.report import ComparisonReport
from segue.evaluation.ratings import RatingMeasurement, rating_gaps, rating_report_of


@dataclass(frozen=True, eq=False)
class RatingsJob(ReportJob):
    """A report of predicted ratings; `measurements` are what each model predicted."""

    measurements: Mapping[str, RatingMeasurement]

    def report(self) -> ComparisonReport:
        """Return the report with all numbers."""
        reports = {name: rating_report_of(each) for name, each in self.measurements.items()}
        main, named = self.measurements[self.first], reports[self.first]
        errors = {name: each.errors["segue"] for name, each in self.measurements.items()}
        errors |= {name: each for name, each in main.errors.items() if name != "segue"}
        rows = {name: each.rows["segue"] for name, each in reports.items()}
        rows |= {name: row for name, row in named.rows.items() if name != "segue"}
        ratings = {name: each.to_dict() for name, each in reports.items()}
        measured = self.rated()
        about = self.about(measured, protocol=named.protocol, notes=list(named.notes), ratings=ratings)
        kinds = {name: name in self.recs for name in errors}
        return ComparisonReport(rating_numbers_of(measured, errors, rows, kinds, about))

    def rated(self) -> Compared:
        """Return the held-out ratings."""
        whole, held = self.test.joined_with_marks()
        order, queries = sequence_order(whole), self.measurements[self.first].queries
        places = np.flatnonzero(held.to_numpy()[order] & np.isfinite(ratings_of(whole.table)[order]))
        targets = {name: each.queries.rows for name, each in self.measurements.items()}
        lengths = queries.places - queries.sequences.offsets[queries.users]
        gaps = None if queries.times is None else rating_gaps(queries)
        return self.measured(queries.users, places, targets, lengths=lengths, gaps=gaps)
