"""Items: found, added and changed.

Knows: how requests say it. Does not know: what follows from it.
"""

from segue.serve.api.answers import ItemChanged, ItemList, ItemsAdded
from segue.serve.api.schemas import AddItemsIn, ItemChange, ItemsQuery, PathId
from segue.serve.api.serializers import items_of
from segue.serve.http.routing import Call, Router

router = Router("items")


@router.route("GET", "/v1/items", "read")
async def find_items(call: Call, query: ItemsQuery) -> ItemList:
    """Search items."""
    found = await call.context.run(call.context.service.find_items, query.q, query.limit)
    return ItemList(items=items_of(found), unknown=[], model=call.context.service.rec.fingerprint)


@router.route("POST", "/v1/items", "admin")
async def add_items(call: Call, body: AddItemsIn) -> ItemsAdded:
    """Make new items known by what they are; lists may show them at once."""
    added = await call.context.run(call.context.service.add_items, body.items)
    return ItemsAdded(added=added, items=len(call.context.service.rec.items))


@router.route("PATCH", "/v1/items/{id}", "admin")
async def change_item(call: Call, id: PathId, body: ItemChange) -> ItemChanged:
    """Take an item out of all lists (`"available": false`) or back in, or change its attributes."""
    change = call.context.service.change_item
    await call.context.run(change, id, available=body.available, attributes=body.attributes)
    return ItemChanged(item=id, available=body.available, attributes=body.attributes)
