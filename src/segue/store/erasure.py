"""Erasing an event or a user, with the same result however often it is requested.

Nothing is locked meanwhile: a store may take long until its files hold no trace.
"""

from segue.errors import NotFoundError
from segue.store.base import Store


def erase_event(store: Store, user: str, event: int | tuple[str, str]) -> bool:
    """Erase an event; return True, or False where the event was erased before.

    Args:
        event: its `seq`, or the client that sent the event and its id.

    Raises:
        NotFoundError: the user has no such event and had none.
        StoreError: the event is erased, but files still hold traces. A repetition removes them.
    """
    if isinstance(event, int):
        seq = event
    else:
        stored = store.find_event(*event)
        seq = stored.seq if stored else 0  # no event has the number 0
    if seq and store.erase_event(user, seq):
        return True
    if not store.was_erased(user, event):
        raise NotFoundError("event: expected one of this user, came another. See GET /v1/users/USER.")
    store.finish_erasures()
    return False


def erase_user(store: Store, user: str, model: str) -> tuple[int, bool]:
    """Erase a user and block the id, also the id of an unknown user.

    Returns:
        How many events were erased, and whether the user had been erased before.

    Raises:
        StoreError: the user is erased, but files still hold traces. A repetition removes them.
    """
    head = store.head(user, model)
    done = store.erase_user(user)
    return head.count if done else 0, head.erased or (head.count > 0 and not done)
