"""Scenarios: set, shown, and put behind what a request says.

Knows: that what a request says itself wins. Does not know: where scenarios are kept, how a list is made.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta

from segue.errors import ArgumentError
from segue.recommend.batch import Happened
from segue.recommend.filters.fields import Filter
from segue.recommend.lists.seen import seen_items
from segue.serve.api.answers import ExperimentOut, Ingested, ItemList, ScenarioOut, ScenariosOut
from segue.serve.api.list_options import boosts_of
from segue.serve.api.schemas import RecommendIn, ScenarioIn, ScenariosIn
from segue.serve.http.bodies import convert
from segue.serve.http.problems import Invalid, Refusal
from segue.serve.http.routing import Call, Router
from segue.serve.live.service import Service
from segue.serve.scenarios.scenarios import ChosenScenario, Scenario, Scenarios, read_toml, why_not_valid

router = Router("scenarios")
#: The settings that are arguments of `Recommender.recommend` as they stand.
_ARGUMENTS = {"k", "type", "context", "exclude", "repeats", "where", "params", "candidates"}
_ARGUMENTS |= {"diversity", "explore", "seed", "temperature"}
L = TypeVar("L", ItemList, Ingested)
PathName = Annotated[str, Meta(min_length=1, max_length=128)]


@router.route("PUT", "/v1/admin/scenarios", "admin")
async def set_scenarios(call: Call, body: ScenariosIn) -> ScenariosOut:
    """Set all scenarios and experiments of the shop; they hold from the next list on, on every server of the store."""
    new = checked(body, call.sent, call.context.service)
    await call.context.run(call.context.service.scenarios.put, new)
    return _out(call)


@router.route("GET", "/v1/scenarios", "read")
async def get_scenarios(call: Call) -> ScenariosOut:
    """Show all scenarios and experiments, with their versions and whether they hold now."""
    return _out(call)


@router.route("DELETE", "/v1/admin/experiments/{name}", "admin")
async def stop_experiment(call: Call, name: PathName) -> ScenariosOut:
    """End an experiment: from the next list on all users get the scenario that it split. Asked again, it is done."""
    await call.context.run(call.context.service.scenarios.stop, name)
    return _out(call)


def _out(call: Call) -> ScenariosOut:
    kept, now = call.context.service.scenarios.now, call.context.now()
    scenarios = {
        name: ScenarioOut(version=one.version, valid=not why_not_valid(one.said, now), settings=dict(one.said))
        for name, one in kept.scenarios.items()
    }
    experiments = {}
    for name, one in kept.experiments.items():
        valid = not why_not_valid(one.said, now)
        experiments[name] = ExperimentOut(
            scenario=one.scenario, arms=dict(one.arms), shares=one.shares_of_arms, valid=valid, settings=dict(one.said)
        )
    return ScenariosOut(scenarios=scenarios, experiments=experiments)


def read_scenarios(path: Path, service: Service | None = None) -> Scenarios:
    """Return the scenarios of a TOML file, checked as those that are sent.

    Args:
        path: of the file.
        service: whose items the filters have to fit.

    Raises:
        ArgumentError: something does not fit; the message has the file and the field.
    """
    said = read_toml(path)
    try:
        return checked(convert(said, ScenariosIn, path.name), said, service)
    except Refusal as error:
        raise ArgumentError(str(error.detail).removesuffix(" See /docs.")) from None


def checked(new: ScenariosIn, said: dict[str, Any], service: Service | None) -> Scenarios:
    """Return scenarios, if their filters can be read and fit the items of a service, and it has the models.

    Args:
        new: as they were read.
        said: as JSON says it.
        service: None checks what can be checked without one.

    Raises:
        Invalid, ArgumentError: something does not fit; the message names the field.
    """
    for name, one in new.scenarios.items():
        places = {"where": one.where} | {f"boosts.{n}.where": boost.where for n, boost in enumerate(one.boosts)}
        for place, where in places.items():
            try:
                Filter.of(where)
                if service is not None and where is not None:
                    service.rec.filters.check(where)
            except ArgumentError as error:
                raise Invalid(f"scenarios.{name}.{place}", str(error).removesuffix(".")) from None
    for name, split in new.experiments.items():
        if split.models and service is not None and service.shadow is None:
            raise Invalid(f"experiments.{name}.models", "expected a second model, segue serve --shadow FILE, came none")
    return Scenarios.of(said)


def settings_of(scenario: Scenario) -> ScenarioIn:
    """Return the settings of a scenario as the decoder of requests reads them."""
    return convert(scenario.settings, ScenarioIn, f"scenario {scenario.name}")


def arguments_of(scenario: Scenario, events: Sequence[Happened], at: int | None) -> dict[str, Any]:
    """Return the settings of a scenario as arguments of `Recommender.recommend`, those that it has.

    Args:
        scenario: of a file.
        events: of the user, for `exclude_events`.
        at: the time of the request, microseconds since 1970.
    """
    wanted = settings_of(scenario)
    found = {name: getattr(wanted, name) for name in scenario.settings.keys() & _ARGUMENTS}
    if wanted.boosts:
        found["boosts"] = boosts_of(wanted)
    if wanted.exclude_events:
        out = seen_items(events, [one.rule() for one in wanted.exclude_events], at)
        found |= {"exclude": [*wanted.exclude, *out], "repeats": wanted.repeats or "allow"}
    return found


def with_scenario(
    call: Call, body: RecommendIn, said: Collection[str]
) -> tuple[RecommendIn, ChosenScenario | None, list[str]]:
    """Return a request with the settings of its scenario for all that it leaves out, the scenario, and notes.

    Args:
        call: the request.
        body: as it was read.
        said: the names that it says itself.

    Raises:
        NotFoundError: there is no such scenario, or it does not hold now.
        Refusal: what the request says does not go together with the scenario.
    """
    if body.scenario is None:
        return body, None, []
    now = call.context.now() if body.at is None else body.at.micros
    chosen = call.context.service.scenarios.now.choose(body.scenario, body.user, now)
    settings, names = settings_of(chosen.scenario), chosen.scenario.settings.keys() - set(said)
    notes = []
    if body.token is not None and "exclude_events" in names:
        names.discard("exclude_events")
        notes = ["exclude_events of the scenario is left out: a token does not know its events."]
    try:
        return msgspec.structs.replace(body, **{name: getattr(settings, name) for name in names}), chosen, notes
    except ValueError as error:
        raise Refusal(422, f"scenario {chosen.scenario.name}: {error}. Change what the request says.") from None


def with_origin(call: Call, found: L, chosen: ChosenScenario | None, user: str | None) -> L:
    """Return a list that says of which scenario and arms it is; the arms count it."""
    shop = call.context.service.arms
    if chosen is None and not shop.running():
        return found
    arms = dict(chosen.arms) if chosen else {}
    if user is not None and found.items is not UNSET:
        arms |= shop.of_models(user)
        if arms:
            list_id = None if found.list_id is UNSET else found.list_id
            shop.shown(arms, user, list_id, [line.item for line in found.items])
    if arms:
        found = msgspec.structs.replace(found, arms=arms)
    if chosen is None:
        return found
    scenario = chosen.scenario
    return msgspec.structs.replace(found, scenario=scenario.name, scenario_version=scenario.version)
