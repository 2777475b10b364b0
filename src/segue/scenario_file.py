"""A scenario of a file, for lists that no server makes.

Knows: times. Does not know: what the file may say (`segue.serve.api.scenarios`), which is imported where it is needed,
for the library needs no server.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segue.data.log.events import Events
from segue.data.values.times import microseconds
from segue.recommend.arguments import Time
from segue.recommend.batch import Happened
from segue.recommend.lists.explain import past_events


def scenario(
    path: str | Path, name: str, *, history: Events | Iterable[str | Happened] = (), at: Time = None
) -> dict[str, Any]:
    """Return the settings of a scenario of a TOML file as arguments of `Recommender.recommend`.

    Args:
        path: the file that `segue serve --scenarios` takes.
        name: of the scenario.
        history: of the user, whose items `exclude_events` leaves out.
        at: the time of the request, at which the scenario has to hold; None is now.

    Raises:
        ArgumentError: a setting of the file does not fit; the message names the field.
        NotFoundError: there is no such scenario, or it does not hold; the message has the names that do.

    Example:
        >>> rec.recommend(state, **segue.scenario("shop.toml", "home"))  # doctest: +SKIP
    """
    from segue.serve.api.scenarios import arguments_of, read_scenarios

    asked = microseconds(at, "at")
    now = int(time.time() * 1e6) if asked is None else asked
    return arguments_of(read_scenarios(Path(path)).choose(name, None, now).scenario, past_events(history), asked)
