"""The same users side by side: their last events, and the list of each model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.data.values.times import iso
from segue.evaluation.comparison_report.compared import Compared

#: Events of a history that are shown.
SHOWN = 12
#: A rank up to GOOD is a good case, one beyond BAD a bad one.
GOOD, BAD = 3, 100
KINDS = ("good", "bad", "different", "random")


def cases_of(measured: Compared, names: Sequence[str], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return users with their last events, what came next, and the list of each model.

    A quarter of them each: good cases of the first model, bad ones, those whose rank differs most between the first
    two models, and random ones, which also fill up what there is not of the others. In all but random cases every
    model knows the item that came. A user is shown once.

    Args:
        measured: the queries.
        names: the models whose lists are shown.
        count: how many users; 0 for none.
        seed: of the draws.
    """
    ranks, known = measured.models[names[0]].ranks, np.all([measured.models[name].known for name in names], axis=0)
    rng, taken = np.random.default_rng(seed), set[int]()
    shuffled = rng.permutation(len(ranks))
    apart = np.zeros(len(ranks))
    if len(names) > 1:
        apart = known * np.abs(np.log(ranks) - np.log(measured.models[names[1]].ranks))
    wanted = {
        "good": shuffled[ranks[shuffled] <= GOOD],
        "bad": shuffled[(ranks[shuffled] > BAD) & known[shuffled]],
        "different": shuffled[np.argsort(-apart[shuffled], kind="stable")] if apart.any() else shuffled[:0],
        "random": shuffled,
    }
    cases: list[dict[str, Any]] = []
    for kind, queries in wanted.items():
        wanted_now = count - len(cases) if kind == KINDS[-1] else count // len(KINDS)
        for query in _of_new_users(measured, queries, taken, wanted_now):
            cases.append(_case(measured, names, int(query), kind))
    return cases


def _of_new_users(measured: Compared, queries: NDArray[np.int64], taken: set[int], count: int) -> list[int]:
    found: list[int] = []
    for query in queries.tolist():
        if len(found) == count:
            break
        if (user := int(measured.users[query])) not in taken:
            taken.add(user)
            found.append(query)
    return found


def _case(measured: Compared, names: Sequence[str], query: int, kind: str) -> dict[str, Any]:
    place = int(measured.places[query])
    begin = max(int(measured.begins[query]), place - SHOWN)
    models = {}
    for name in names:
        ranked = measured.models[name]
        rows = [row for row in ranked.lists[query].tolist() if row]
        rank = int(ranked.ranks[query]) if ranked.known[query] else None
        beyond = ranked.longest if rank and not ranked.reaches(rank) else None
        models[name] = {
            "rank": None if beyond else rank,
            "beyond": beyond,
            "list": [_item(measured, row) for row in rows],
        }
    return {
        "kind": kind,
        "user": measured.log["user"][place],
        "earlier": place - int(measured.begins[query]),
        "history": [_event(measured, row) for row in range(begin, place)],
        "target": _event(measured, place),
        "models": models,
    }


def _item(measured: Compared, row: int) -> dict[str, str]:
    return {"item": measured.items[row], "title": measured.name_of(row)}


def _event(measured: Compared, place: int) -> dict[str, Any]:
    item = measured.log["item"][place]
    event = {"item": item, "title": measured.titles.get(item, item)}
    return event | ({"time": iso(measured.log["time"][place])[:16]} if "time" in measured.log.columns else {})
