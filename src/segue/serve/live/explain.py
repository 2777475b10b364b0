"""Why an item is in a list of a user of a store.

Knows: the last events of a user, and the state before them. Does not know: requests, or how an event is left out
(`segue.recommend.lists.explain`).
"""

from segue.errors import NotFoundError
from segue.recommend.lists.explain import Explanation, explain_score
from segue.recommend.lists.item_filters import ItemFilters
from segue.recommend.lists.options import ListOptions
from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.serve.live.replay import state_before
from segue.serve.ranking.list_requests import ListRequest, rank
from segue.store.base import Head, Store
from segue.store.events import StoredEvent


def explain(
    rec: Recommender,
    store: Store,
    head: Head,
    state: State,
    item: str | None,
    last: int,
    options: ListOptions,
    filters: ItemFilters,
) -> Explanation[StoredEvent]:
    """Return what each of a user's last events did for the score of an item.

    Args:
        rec: the model.
        store: with the log.
        head: of the user.
        state: of the user, after all events.
        item: None takes the first of the list that the model knows.
        last: how many events are looked at.
        options: of the list.
        filters: what may be shown.

    Raises:
        NotFoundError: the item is unknown, or there is none to show.
        ArgumentError: nothing is known of the item to score it by.
        ConflictError: see `state_before`.

    Cost: `last` steps of up to `last` users side by side, after a replay from the nearest snapshot.
    """
    if item is None:
        request = ListRequest(rec, state, options, who=head.user.encode())
        top = rank([rec], lambda _: filters, [request])[0][0].items
        known = [one.item for one in top if rec.vocabulary.learnt_row(one.item)]  # of others the model says nothing
        if not known:
            raise NotFoundError(
                "explain: expected an item to explain, the list has none that the model knows. Name one."
            )
        item = known[0]
    before, events = _before(rec, store, head, last)
    return explain_score(rec, before, events, state, item, options)


def _before(rec: Recommender, store: Store, head: Head, last: int) -> tuple[State, list[StoredEvent]]:
    """Return the last events of a user, oldest first, and the state before them."""
    events = store.events(head.user, limit=last, backwards=True)[::-1]
    if len(events) == head.count:
        return rec.start(), events
    return state_before(rec, store, head, events[0].position), events
