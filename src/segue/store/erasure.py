"""Erasures, which are done once however often they are asked for.

Knows: ids and numbers of events, and that what was erased before is erased. Does not know: requests, receipts, how a
store erases. Nothing is locked meanwhile: a store may wait long until its files are rid of what was erased.
"""

from segue.errors import NotFoundError
from segue.store.base import Store


def erase_event(store: Store, user: str, event: int | tuple[str, str]) -> bool:
    """Erase an event, and return whether it was there; False where it was erased before.

    Args:
        store: where.
        user: whose.
        event: its `seq`, or the client that sent it and its id.

    Raises:
        NotFoundError: the user has no such event, and none was erased.
        StoreError: it is erased, but files hold it still; asked again, that is finished.
    """
    if isinstance(event, int):
        seq = event
    else:
        kept = store.find_event(*event)
        seq = 0 if kept is None else kept.seq  # no event has this number
    if seq and store.erase_event(user, seq):
        return True
    if not store.was_erased(event):
        raise NotFoundError("event: expected one of this user, came another. See GET /v1/users/USER.")
    store.finish_erasures()
    return False


def erase_user(store: Store, user: str, model: str) -> tuple[int, bool]:
    """Erase a user, and block the id, also of one nobody knows.

    Returns:
        How many events were erased, and whether the user had been erased before.

    Raises:
        StoreError: it is erased, but files hold it still; asked again, that is finished.
    """
    head = store.head(user, model)
    done = store.erase_user(user)
    return head.count if done else 0, head.erased or (head.count > 0 and not done)
