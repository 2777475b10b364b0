"""Users: shown, merged and erased.

Knows: how requests name users and events. Does not know: how they are kept.
"""

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from segue.serve.api.answers import BlockOut, ErasureReceipt, MergeResult, UserOut
from segue.serve.api.schemas import Merge, PathId, UserQuery
from segue.serve.api.serializers import user_of
from segue.serve.http.problems import Refusal
from segue.serve.http.routing import Call, Router
from segue.serve.live.erasure_receipt import Receipt
from segue.store.events import StoredEvent

router = Router("users")

PathSeq = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]


@router.route("GET", "/v1/users/{user}", "read")
async def get_user(call: Call, user: PathId, query: UserQuery) -> UserOut:
    """Show what is known of a user: the events, and the state as a picture."""
    before = _cursor(query.before)
    return user_of(await call.context.run(call.context.service.user, user, limit=query.limit, before=before))


def _cursor(text: str | None) -> StoredEvent | None:
    if text is None:
        return None
    found = re.fullmatch(r"(-?[0-9]{1,18})\.([0-9]{1,18})", text)
    if found is None:
        raise Refusal(422, "before: expected `next` of the page before, came something else. Leave it out to begin.")
    return StoredEvent("", "", None, None, None, None, {}, int(found[2]), int(found[1]))


@router.route("DELETE", "/v1/users/{user}", "write")
async def erase_user(call: Call, user: PathId) -> ErasureReceipt:
    """Erase a user with everything that is kept of them, block the id, and say what an erasure cannot reach.

    The id is blocked also where nothing is known under it, since events may come late. Asked again, it is done.
    """
    return _receipt(await call.context.erase(call.context.service.erase_user, user))


@router.route("DELETE", "/v1/users/{user}/block", "admin")
async def readmit_user(call: Call, user: PathId) -> BlockOut:
    """Take the id of an erased user again; what was erased stays erased."""
    await call.context.run(call.context.service.readmit, user)
    return BlockOut(user=user, blocked=False)


@router.route("DELETE", "/v1/users/{user}/events/{id}", "write")
async def erase_event(call: Call, user: PathId, id: PathId) -> ErasureReceipt:
    """Erase an event, by its `id` as this API key sent it; what follows is computed anew. Asked again, it is done."""
    return _receipt(await call.context.erase(call.context.service.erase_event, user, str(id), call.key.name))


@router.route("DELETE", "/v1/users/{user}/events/by-seq/{seq}", "write")
async def erase_event_by_seq(call: Call, user: PathId, seq: PathSeq) -> ErasureReceipt:
    """Erase an event, by its number in the order of arrival (`seq`), whoever sent it. Asked again, it is done."""
    return _receipt(await call.context.erase(call.context.service.erase_event, user, seq))


@router.route("POST", "/v1/users/{user}/merge", "write")
async def merge_user(call: Call, user: PathId, body: Merge) -> MergeResult:
    """Give all events of the user in the path to `into`, in the order of time: somebody anonymous logged in.

    From then on both names mean the same user.
    """
    if user == body.into:
        raise Refusal(422, "into: expected another user than that of the path, came the same. Leave it.")
    return MergeResult(user=body.into, count=await call.context.run(call.context.service.merge, user, body.into))


def _receipt(found: Receipt) -> ErasureReceipt:
    return msgspec.convert(found, ErasureReceipt, from_attributes=True)
