"""Items: found, added and changed.

Knows: how requests say it. Does not know: what follows from it.
"""

import numpy as np
from msgspec import UNSET

from segue.recommend.lists.item_search import Facet, FoundRows, attributes, facets, search
from segue.recommend.recommender import Recommender
from segue.serve.api.answers import FacetOut, FacetValue, FoundItem, ItemChanged, ItemsAdded, ItemsFound
from segue.serve.api.list_options import where_of
from segue.serve.api.schemas import AddItemsIn, ItemChange, ItemsQuery, PathId
from segue.serve.http.routing import Call, Router
from segue.serve.live.service import Service

router = Router("items")


@router.route("GET", "/v1/items", "read")
async def find_items(call: Call, query: ItemsQuery) -> ItemsFound:
    """Find items by words of their titles or ids, by a filter, or by `id`; the best match first, then the most popular.

    `facets=true` adds the attributes of all items found, each with its frequent values or the range of its numbers.
    """
    return await call.context.run(_found, call.context.service, query, call.context.now())


def _found(service: Service, query: ItemsQuery, now: int) -> ItemsFound:
    rec, shown, end = service.rec, service.changes.filters(service.rec).shown, query.skip + query.limit
    if query.id:
        rows = np.array([row for row in map(rec.vocabulary.row, dict.fromkeys(query.id)) if row], np.int32)
        found = FoundRows(rows, len(rows))
    else:
        found = search(rec, query.q, where_of(query.where), limit=None if query.facets else end, now=now)
    return ItemsFound(
        items=[
            _item(rec, row, shown=shown is None or bool(shown[row])) for row in found.rows[query.skip : end].tolist()
        ],
        total=found.total,
        unknown=[id for id in query.id if id not in rec.vocabulary],
        model=rec.fingerprint,
        facets=[_facet(one) for one in facets(rec, found.rows)] if query.facets else UNSET,
    )


def _item(rec: Recommender, row: int, *, shown: bool) -> FoundItem:
    id = rec.vocabulary.id(row)
    return FoundItem(item=id, title=rec.title(id), attributes=attributes(rec, row), shown=shown)


def _facet(facet: Facet) -> FacetOut:
    values = [FacetValue(value=value, items=items) for value, items in facet.values.items()]
    span = UNSET if facet.lowest is None or facet.highest is None else [facet.lowest, facet.highest]
    return FacetOut(name=facet.name, kind=facet.kind, values=values, range=span)


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
