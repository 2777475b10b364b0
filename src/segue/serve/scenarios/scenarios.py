"""Scenarios, which are named settings of lists, and experiments, which split users between them.

Knows: names, dates of validity, versions, how a user gets an arm.
Does not know: what the settings mean (`segue.serve.api.schemas`), where they are kept (`kept_scenarios`).
"""

import tomllib
from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from segue.data.values.times import microseconds
from segue.errors import ArgumentError, NotFoundError, listed, nearest

#: What of a scenario says when it holds; the rest are settings of lists.
DATES = ("valid_from", "valid_until")


@dataclass(frozen=True)
class Scenario:
    """Named settings of lists.

    Args:
        name: that requests send.
        said: what was set, as JSON says it.
    """

    name: str
    said: Mapping[str, Any]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What is set of lists, by the names of a request."""
        return {name: value for name, value in self.said.items() if name not in DATES}

    @cached_property
    def version(self) -> str:
        """A digest of what was set: the same settings have the same version on every server.

        Example:
            >>> Scenario("home", {"k": 5}).version == Scenario("mail", {"k": 5}).version != Scenario("home", {}).version
            True
        """
        return blake2b(msgspec.json.encode(self.said, order="deterministic"), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Experiment:
    """A split of users between scenarios, or between the running model and the one in the shadow.

    Args:
        name: with which users are split anew: the arms of two experiments have nothing to do with each other.
        scenario: that requests send; "" where models are compared, for any request.
        arms: by name, the scenario whose settings an arm has, or its model, "running" or "shadow"; the first is the one
            that others are compared with.
        shares: of the users, by arm; empty splits them evenly.
        said: what was set, as JSON says it.

    Raises:
        ArgumentError: the shares do not fit the arms.

    Example:
        >>> experiment = Experiment("wide", "home", {"now": "home", "wide": "home-wide"}, {"now": 0.9, "wide": 0.1})
        >>> [experiment.arm_of(user) for user in ("ann", "ann", "bob", "cyd", "dan")]
        ['now', 'now', 'now', 'wide', 'now']
    """

    name: str
    scenario: str
    arms: Mapping[str, str]
    shares: Mapping[str, float] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"experiments.{self.name}"
        if len(self.arms) < 2:
            raise ArgumentError(
                f"{where}.arms: expected at least two, came {len(self.arms)}. Name a scenario for each."
            )
        if self.shares and self.shares.keys() != self.arms.keys():
            raise ArgumentError(f"{where}.shares: expected one for each of {listed(self.arms)}. Name each arm once.")
        if self.shares and abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ArgumentError(f"{where}.shares: expected a sum of 1, came {sum(self.shares.values()):g}.")

    @cached_property
    def _bounds(self) -> list[float]:
        return list(accumulate(self.shares_of_arms.values()))[:-1]

    @property
    def shares_of_arms(self) -> dict[str, float]:
        """The share of the users of each arm."""
        return {arm: self.shares.get(arm, 1 / len(self.arms)) for arm in self.arms}

    def arm_of(self, user: str) -> str:
        """Return the arm of a user: the same at all times, by a hash of the experiment and the id."""
        digest = blake2b(f"{self.name}\0{user}".encode(), digest_size=8).digest()
        return list(self.arms)[bisect(self._bounds, int.from_bytes(digest) / 2**64)]


class ChosenScenario(NamedTuple):
    """The scenario that answers a request, and the arm that chose it, if an experiment did.

    Args:
        requested: the name that was sent.
        scenario: whose settings hold.
        arms: by experiment, the arm that chose it; empty where no experiment splits the scenario.
    """

    requested: str
    scenario: Scenario
    arms: Mapping[str, str] = {}


@dataclass(frozen=True)
class Scenarios:
    """All scenarios and experiments of a shop.

    Raises:
        ArgumentError: an experiment names a scenario that there is not, or two split the same.
    """

    scenarios: Mapping[str, Scenario] = field(default_factory=dict)
    experiments: Mapping[str, Experiment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        split: dict[str, str] = {}
        for one in self.experiments.values():
            for where, name in (("scenario", one.scenario), *((f"arms.{arm}", of) for arm, of in one.arms.items())):
                if one.scenario and name not in self.scenarios:
                    raise ArgumentError(f"experiments.{one.name}.{where}: {_unknown(name, self.scenarios)}")
            if (other := split.setdefault(one.scenario, one.name)) != one.name:
                what = f'scenario "{one.scenario}"' if one.scenario else "models"
                raise ArgumentError(
                    f"experiments.{one.name}: expected one experiment to split the users of {what}, {other} does too. "
                    "Remove one of them."
                )

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Scenarios":
        """Return what JSON or TOML says, once its names and types are known to be right."""
        scenarios = {name: Scenario(name, one) for name, one in said.get("scenarios", {}).items()}
        return cls(scenarios, {name: _experiment(name, one) for name, one in said.get("experiments", {}).items()})

    def said(self) -> dict[str, Any]:
        """Return what `of` reads."""
        return {
            "scenarios": {name: dict(one.said) for name, one in self.scenarios.items()},
            "experiments": {name: dict(one.said) for name, one in self.experiments.items()},
        }

    def running(self, now: int) -> list[Experiment]:
        """Return the experiments that hold at a time, in microseconds since 1970."""
        return [one for one in self.experiments.values() if not why_not_valid(one.said, now)]

    def choose(self, name: str, user: str | None, now: int) -> ChosenScenario:
        """Return the scenario that answers a request.

        Args:
            name: that was sent.
            user: who asks; None, whom no experiment splits, gets the scenario of this name.
            now: microseconds since 1970.

        Raises:
            NotFoundError: there is no such scenario, or it does not hold now; the message has the names that do.
        """
        experiment = (
            next((one for one in self.running(now) if one.scenario == name), None) if user is not None else None
        )
        if experiment is None or user is None:
            return ChosenScenario(name, self._valid(name, now))
        arm = experiment.arm_of(user)
        return ChosenScenario(name, self._valid(experiment.arms[arm], now), {experiment.name: arm})

    def _valid(self, name: str, now: int) -> Scenario:
        found = self.scenarios.get(name)
        why = "" if found is None else why_not_valid(found.said, now)
        if found is not None and not why:
            return found
        valid = [one.name for one in self.scenarios.values() if not why_not_valid(one.said, now)]
        if found is None:
            raise NotFoundError(f"scenario: {_unknown(name, valid)}")
        raise NotFoundError(f'scenario: expected one that holds now, "{name}" {why}. Valid are {_names(valid)}.')


def why_not_valid(said: Mapping[str, Any], now: int) -> str:
    """Return why something with dates of validity does not hold at a time, "" where it does.

    Example:
        >>> why_not_valid({"valid_until": "2024-01-01"}, 1_800_000_000_000_000)
        'held until 2024-01-01'
    """
    begin, end = (None if said.get(name) is None else microseconds(said[name], name) for name in DATES)
    if begin is not None and now < begin:
        return f"holds from {said['valid_from']} on"
    return f"held until {said['valid_until']}" if end is not None and now >= end else ""


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file of scenarios says, as JSON would say it: dates are texts.

    Raises:
        ArgumentError: there is no such file, or it is no TOML.
    """
    try:
        said: dict[str, Any] = _as_json(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(f"--scenarios {path}: expected a TOML file with [scenarios.NAME]: {error}.") from None
    return said


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    return value.isoformat() if isinstance(value, date | datetime) else value


def _experiment(name: str, said: Mapping[str, Any]) -> Experiment:
    arms = said.get("models") or said["arms"]
    return Experiment(name, said.get("scenario") or "", arms, said.get("shares") or {}, said)


def _unknown(name: str, known: Any) -> str:
    near = nearest(name, list(known))
    meant = f" Did you mean {near}?" if near else ""
    return f'expected a scenario among {_names(known)}, came "{name[:60]}".{meant}'


def _names(names: Any) -> str:
    return listed(names) if names else "none"
