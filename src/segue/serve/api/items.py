"""Items, rules and models: what the shop and the operator change.

Knows: how requests say it. Does not know: what follows from it.
"""

from typing import Annotated

from fastapi import Query, Request, Response

from segue.errors import NotFoundError
from segue.serve.api.answer_schemas import (
    ItemChanged,
    ItemList,
    ItemsAdded,
    ModelChanged,
    OnlineMetrics,
    RulesSet,
    StatusOut,
)
from segue.serve.api.schemas import ItemChange, ModelChange, NewItems, PathId, Rules
from segue.serve.api.serializers import item_lines, reply, status_of
from segue.serve.http.app_context import Desk, desk_of, needs, new_router
from segue.serve.ranking.item_filters import Rule

router = new_router()


@router.get("/v1/items", response_model=ItemList, openapi_extra=needs("read"), tags=["items"])
async def find_items(
    request: Request,
    q: Annotated[str, Query(max_length=200, description="Words of the title, or of the id.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Search items."""
    desk = desk_of(request)
    found = await desk.ask(desk.service.find_items, q, limit)
    return reply({"items": item_lines(found), "unknown": [], "model": desk.service.rec.fingerprint})


@router.post("/v1/items", response_model=ItemsAdded, openapi_extra=needs("admin"), tags=["items"])
async def add_items(request: Request, body: NewItems) -> Response:
    """Make new items known by what they are; lists may show them at once."""
    desk = desk_of(request)
    added = await desk.ask(desk.service.add_items, body.items)
    return reply({"added": added, "items": len(desk.service.rec.items)})


@router.patch("/v1/items/{id}", response_model=ItemChanged, openapi_extra=needs("admin"), tags=["items"])
async def change_item(request: Request, id: PathId, body: ItemChange) -> Response:
    """Take an item out of all lists (`"available": false`) or back in, or change its attributes."""
    desk = desk_of(request)
    change = desk.service.change_item
    await desk.ask(change, id, available=body.available, attributes=body.attributes)
    return reply({"item": id, "available": body.available, "attributes": body.attributes})


@router.put("/v1/admin/rules", response_model=RulesSet, openapi_extra=needs("admin"), tags=["admin"])
async def set_rules(request: Request, body: Rules) -> Response:
    """Set all rules of the shop (pin, block, boost); they hold from the next list on."""
    desk = desk_of(request)
    rules = [Rule(one.kind, one.where, tuple(one.items), one.by, one.name) for one in body.rules]
    await desk.ask(desk.service.set_rules, rules)
    return reply({"rules": len(rules)})


@router.post("/v1/admin/model", response_model=ModelChanged, openapi_extra=needs("admin"), tags=["admin"])
async def change_model(request: Request, body: ModelChange) -> Response:
    """Answer from another model, by its name in the folder of models, or from the one before again.

    Each user is answered by the old model until their state under the new one holds all their events.
    """
    desk = desk_of(request)
    fingerprint = await desk.ask(_changed, desk, body.model)
    return reply({"model": fingerprint, "swapping_to": (await desk.ask(desk.service.status)).swapping_to})


def _changed(desk: Desk, name: str | None) -> str:
    if name is None:
        return desk.service.roll_back()
    if not desk.swaps:
        raise NotFoundError("model: expected a folder of models, none was given. Start with --models DIR.")
    return desk.service.swap(name)


@router.get("/v1/status", response_model=StatusOut, openapi_extra=needs("read"), tags=["admin"])
async def get_status(request: Request) -> Response:
    """Say which model answers, how far a swap is, and whether the store keeps its promises."""
    desk = desk_of(request)
    return reply(status_of(await desk.ask(desk.service.status)))


@router.get("/v1/quality", response_model=OnlineMetrics, openapi_extra=needs("read"), tags=["admin"])
async def get_online_metrics(request: Request) -> Response:
    """Say how well events were foreseen, each ranked by its user's state just before it.

    `shadow` compares the model in the shadow with the one that runs, on the events that both have ranked.
    """
    return reply(desk_of(request).service.live_quality())
