"""The search for the best settings of a simple model, one setting at a time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

Settings = TypeVar("Settings")


def coordinate_search(
    start: Settings,
    grid: Mapping[str, Sequence[Any]],
    value: Callable[[Settings], float],
    change: Callable[..., Settings],
    *,
    trials: int | None = None,
) -> Settings:
    """Return the best settings, varying one at a time until a whole round changes nothing.

    Of settings with equal values the first one tried wins.

    Args:
        start: the settings to begin with.
        grid: for each setting the values to try.
        value: higher is better; called once for each try.
        change: returns settings with another value, as `dataclasses.replace` does.
        trials: at most so many settings are tried, `start` among them; None for no limit.

    Cost: a call of `value` for each try; a round tries every value of the grid once.

    Example:
        >>> from dataclasses import make_dataclass, replace
        >>> Point = make_dataclass("Point", ["x", "y"], frozen=True)
        >>> grid = {"x": (0, 1, 2, 3), "y": (0, 1, 2, 3)}
        >>> coordinate_search(Point(0, 0), grid, lambda p: -((p.x - 2) ** 2) - (p.y - p.x) ** 2, replace)
        Point(x=1, y=1)
    """
    tried: dict[Settings, float] = {}

    def worth(settings: Settings) -> float:
        if settings not in tried and (trials is None or len(tried) < trials):
            tried[settings] = value(settings)
        return tried.get(settings, float("-inf"))

    best, before = start, None
    while best != before:
        before = best
        for name, values in grid.items():
            best = max([best, *(change(best, **{name: each}) for each in values)], key=worth)
    return best
