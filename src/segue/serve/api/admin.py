"""Rules, models and where the server stands: what an operator changes and sees.

Knows: how requests say it. Does not know: what follows from it.
"""

import msgspec

from segue.errors import NotFoundError
from segue.recommend.lists.item_filters import Rule
from segue.serve.api.answers import ModelChanged, OnlineMetricsOut, RulesSet, StatusOut
from segue.serve.api.schemas import ModelChange, Rules
from segue.serve.http.app_context import AppContext
from segue.serve.http.routing import Call, Router

router = Router("admin")


@router.route("PUT", "/v1/admin/rules", "admin")
async def set_rules(call: Call, body: Rules) -> RulesSet:
    """Set all rules of the shop (pin, block, boost); they hold from the next list on."""
    rules = [Rule(one.kind, one.where, tuple(one.items), one.by, one.name) for one in body.rules]
    await call.context.run(call.context.service.set_rules, rules)
    return RulesSet(rules=len(rules))


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
