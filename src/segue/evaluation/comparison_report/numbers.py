"""All numbers of a report in one dictionary of plain values: the contents of `report.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segue.evaluation.comparison_report.cases import cases_of
from segue.evaluation.comparison_report.compared import Compared
from segue.evaluation.comparison_report.lists import catalogue_of, curves_of
from segue.evaluation.comparison_report.pairs import (
    LISTS,
    RATINGS,
    Main,
    PerQuery,
    best_first,
    draw,
    metrics_of,
    of_queries,
    pairs_of,
    rating_metrics_of,
    short,
    verdict,
)
from segue.evaluation.comparison_report.slices import slices_of

#: Raised where a reader of an older file would misread the new one.
FORMAT = 1


def numbers_of(
    measured: Compared,
    rows: Mapping[str, Mapping[str, float]],
    about: Mapping[str, Any],
    *,
    ks: Sequence[int],
    cases: int,
) -> dict[str, Any]:
    """Return the numbers of a report of lists.

    Args:
        measured: ranks and lists.
        rows: model -> metric -> value, those of `Report`.
        about: what does not follow from ranks: protocol, notes, data, settings, calibration, ratings, learning.
        ks: lengths of lists.
        cases: how many users are shown.

    Cost: O(draws x users x models x metrics), and O(queries x slices).
    """
    draws = draw(measured, sorted({*ks, 10}))
    metrics, kinds = metrics_of(measured, draws), {name: each.is_model for name, each in measured.models.items()}
    values = {name: of_queries(measured, name, LISTS.metric) for name in measured.models}
    pairs = pairs_of(values, {name: draws[name, LISTS.metric] for name in values}, measured.users, LISTS.difference)
    beside = beside_of(metrics, measured.measured_models, LISTS)
    return _common(measured, metrics, pairs, kinds, LISTS) | {
        **about,
        "unknown_targets": {
            name: int((~each.known).sum())
            for name, each in measured.models.items()
            if each.is_model and each.longest is None
        },
        "models": _models(rows, metrics, kinds),
        "curves": curves_of(measured),
        "slices": slices_of(measured, {name: values[name] for name in beside}),
        "catalogue": {
            name: {"coverage@10": rows[name]["coverage@10"]} | row for name, row in catalogue_of(measured).items()
        },
        "cases": cases_of(measured, beside, cases) if cases else [],
    }


def rating_numbers_of(
    measured: Compared,
    errors: Mapping[str, PerQuery],
    rows: Mapping[str, Mapping[str, float]],
    kinds: Mapping[str, bool],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the numbers of a report of predicted ratings.

    Args:
        measured: the held-out ratings, without models.
        errors: model -> float64[query], predicted less given.
        rows: model -> metric -> value, those of `RatingReport`.
        kinds: model -> whether it is a model that is measured.
        about: as of `numbers_of`.
    """
    metrics, draws = rating_metrics_of(errors, measured.users)
    values = {name: -(each**2) for name, each in errors.items()}
    pairs = pairs_of(values, draws, measured.users, RATINGS.difference)
    beside = beside_of(metrics, [name for name, is_model in kinds.items() if is_model], RATINGS)
    return _common(measured, metrics, pairs, kinds, RATINGS) | {
        **about,
        "models": _models(rows, metrics, kinds),
        "slices": slices_of(measured, {name: values[name] for name in beside}, root=True),
    }


def _common(
    measured: Compared, metrics: Mapping[str, Any], pairs: Sequence[Any], kinds: Mapping[str, bool], of: Main
) -> dict[str, Any]:
    """Return what every report has."""
    return {
        "format": FORMAT,
        "verdict": verdict(metrics, pairs, kinds, of),
        "main": of._asdict(),
        "queries": len(measured.users),
        "users": len(np.unique(measured.users)),
        "pairs": pairs,
    }


def _models(
    rows: Mapping[str, Mapping[str, float]], metrics: Mapping[str, Any], kinds: Mapping[str, bool]
) -> dict[str, Any]:
    return {
        name: {"kind": "model" if kinds[name] else "baseline", "name": short(name)}
        | {"metrics": rows[name], "intervals": metrics[name]}
        for name in metrics
    }


def beside_of(metrics: Mapping[str, Any], names: Sequence[str], of: Main) -> list[str]:
    """Return the models that are measured and the best of the baselines."""
    return [*names, *[name for name in best_first(metrics, of) if name not in names][:1]]
