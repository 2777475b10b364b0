"""All numbers of a report in one dictionary of plain values: the contents of `report.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from segue.evaluation.comparison_report.cases import cases_of
from segue.evaluation.comparison_report.lists import catalogue_of, curves_of
from segue.evaluation.comparison_report.measured import Measured
from segue.evaluation.comparison_report.pairs import MAIN, draw, metrics_of, pairs_of, short, verdict
from segue.evaluation.comparison_report.slices import slices_of

#: Raised where a reader of an older file would misread the new one.
FORMAT = 1


def numbers_of(
    measured: Measured,
    rows: Mapping[str, Mapping[str, float]],
    about: Mapping[str, Any],
    *,
    ks: Sequence[int],
    cases: int,
) -> dict[str, Any]:
    """Return the numbers of a report.

    Args:
        measured: ranks and lists.
        rows: model -> metric -> value, those of `Report`.
        about: what does not follow from ranks: protocol, notes, data, settings, calibration, ratings, learning.
        ks: lengths of lists.
        cases: about how many users are shown.

    Cost: O(draws x users x models x metrics), and O(queries x slices).
    """
    draws = draw(measured, sorted({*ks, 10}))
    metrics, pairs = metrics_of(measured, draws), pairs_of(measured, draws)
    kinds = {name: ranked.is_model for name, ranked in measured.models.items()}
    beside = _beside(metrics, measured.measured_models)
    models = {
        name: {"kind": "model" if kinds[name] else "baseline", "name": short(name), "metrics": rows[name]}
        | {"intervals": metrics[name]}
        for name in measured.models
    }
    return {
        "format": FORMAT,
        "verdict": verdict(metrics, pairs, kinds),
        **about,
        "queries": len(measured.places),
        "users": int(measured.log["user"].gather(measured.places).n_unique()),
        "unknown_targets": {name: int((~measured.models[name].known).sum()) for name in measured.measured_models},
        "models": models,
        "pairs": pairs,
        "curves": curves_of(measured),
        "slices": slices_of(measured, beside),
        "catalogue": {
            name: {"coverage@10": rows[name]["coverage@10"]} | row for name, row in catalogue_of(measured).items()
        },
        "cases": cases_of(measured, beside, cases) if cases else [],
    }


def _beside(metrics: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return the models that are measured and the best of the baselines."""
    others = [name for name in metrics if name not in names]
    return [*names, *sorted(others, key=lambda name: -metrics[name][MAIN]["mean"])[:1]]
