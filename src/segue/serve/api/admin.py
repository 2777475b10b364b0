"""Rules, models and where the server stands: what an operator changes and sees.

Knows: how requests say it. Does not know: what follows from it.
"""

from collections.abc import Iterable
from dataclasses import asdict

import msgspec

from segue.errors import NotFoundError
from segue.recommend.lists.item_filters import Rule, reached
from segue.recommend.lists.options import ListOptions
from segue.serve.api.answers import (
    ActiveUserOut,
    ModelChanged,
    ModelFile,
    ModelsOut,
    OnlineMetricsOut,
    RuleOut,
    RulesOut,
    RulesPreview,
    RulesSet,
    StatusOut,
    UsersOut,
)
from segue.serve.api.schemas import ModelChange, PreviewIn, Rules, UsersQuery
from segue.serve.api.serializers import list_of
from segue.serve.http.app_context import AppContext
from segue.serve.http.routing import Call, Router

router = Router("admin")


@router.route("GET", "/v1/admin/rules", "admin")
async def get_rules(call: Call) -> RulesOut:
    """Return all rules, in the order in which they are applied."""
    service = call.context.service
    return RulesOut(rules=_rules_out(await call.context.run(reached, service.rec, service.changes.rules)))


@router.route("PUT", "/v1/admin/rules", "admin")
async def set_rules(call: Call, body: Rules) -> RulesSet:
    """Set all rules of the shop (pin, block, boost); they hold from the next list on."""
    await call.context.run(call.context.service.set_rules, _rules(body))
    return RulesSet(rules=len(body.rules))


@router.route("POST", "/v1/admin/rules/preview", "admin")
async def preview_rules(call: Call, body: PreviewIn) -> RulesPreview:
    """Return the list of a user by the rules that hold and by those of the request, which are not kept."""
    context, rules = call.context, _rules(body)
    options = ListOptions(body.k, context.now(), debug=True)
    before, after = await context.run(context.service.preview_rules, body.user, rules, options)
    out = _rules_out(await context.run(reached, context.service.rec, rules))
    return RulesPreview(rules=out, before=list_of(before), after=list_of(after))


def _rules(body: Rules) -> list[Rule]:
    return [Rule(one.kind, one.where, tuple(one.items), one.by, one.name) for one in body.rules]


def _rules_out(rules: Iterable[tuple[Rule, int]]) -> list[RuleOut]:
    return [
        msgspec.convert(asdict(rule) | {"where": rule.where or {}, "reach": reach}, RuleOut) for rule, reach in rules
    ]


@router.route("GET", "/v1/admin/users", "admin")
async def list_users(call: Call, query: UsersQuery) -> UsersOut:
    """Return the users who have events, the latest arrival first."""
    found = await call.context.run(call.context.service.store.users, before=query.before, limit=query.limit)
    users = [ActiveUserOut(user=one.user, active=one.active) for one in found]
    return UsersOut(users=users, next=users[-1].active if len(users) == query.limit else None)


@router.route("GET", "/v1/admin/models", "admin")
async def list_models(call: Call) -> ModelsOut:
    """Return the models that may be rolled out: the files of the folder of models, the newest first."""
    return await call.context.run(_models, call.context)


def _models(context: AppContext) -> ModelsOut:
    found = context.service.models()
    files = [(path, path.stat()) for path in found.files if context.rollouts]
    return ModelsOut(
        models=[
            ModelFile(
                name=path.name,
                bytes=stat.st_size,
                modified=stat.st_mtime,
                running=found.running is not None and path.resolve() == found.running.resolve(),
            )
            for path, stat in files
        ],
        running=None if found.running is None else found.running.name,
        previous=found.previous,
    )


@router.route("POST", "/v1/admin/model", "admin")
async def change_model(call: Call, body: ModelChange) -> ModelChanged:
    """Roll out another model, by its name in the folder of models, or roll back to the one before.

    Each user is answered by the old model until their state under the new one holds all their events.
    """
    fingerprint = await call.context.run(_changed, call.context, body.model)
    return ModelChanged(
        model=fingerprint, rolling_out_to=(await call.context.run(call.context.service.status)).rolling_out_to
    )


def _changed(context: AppContext, name: str | None) -> str:
    if name is None:
        return context.service.roll_back()
    if not context.rollouts:
        raise NotFoundError("model: expected a folder of models, none was given. Start with --models DIR.")
    return context.service.roll_out(name)


@router.route("GET", "/v1/status", "read")
async def get_status(call: Call) -> StatusOut:
    """Say which model answers, how far a roll-out is, and whether the store keeps its promises."""
    return msgspec.convert(await call.context.run(call.context.service.status), StatusOut, from_attributes=True)


@router.route("GET", "/v1/quality", "read")
async def get_online_metrics(call: Call) -> OnlineMetricsOut:
    """Return online metrics: the share of events that were in the list their users would have been shown just before.

    `shadow` compares the model in the shadow with the one that runs, on the events that both have ranked.
    """
    return msgspec.convert(call.context.service.online_metrics(), OnlineMetricsOut)
