"""The lists that each user of a store was shown.

Knows: that the last lists of a user lie in the store as a state of the user, beside those of the models. So a restart
keeps them, servers over one store share them, an erasure of the user or of one of their events erases them, and a merge
begins anew. They are no part of the log: no model learns from them.
Does not know: what they take off scores (`segue.recommend.lists.impressions`), how a list is made.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec

from segue.errors import StoreError
from segue.recommend.lists.impressions import ShownList, discounts_of
from segue.recommend.lists.options import ListOptions
from segue.serve.ranking.types import Answer, IngestRequest
from segue.store.base import Head, Stale, Store, Write

logger = logging.getLogger("segue.serve")

#: The name of the state.
IMPRESSIONS = "impressions"
#: Lists of a user that are kept, items of each, and bytes of all.
LISTS, ITEMS, BYTES = 50, 50, 1 << 16
#: Events since the last list that are looked at.
EVENTS = 1000
#: How often a note is written anew after events that came meanwhile.
TRIES = 5


class KeptImpressions:
    """The lists of each user of a store. Safe for several threads.

    Args:
        store: where they are kept.
        clock: seconds since 1970.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock

    def of(self, user: str) -> list[ShownList]:
        """Return the lists that are noted of a user, without items that the user took since."""
        return self._read(self._store.head(user, IMPRESSIONS))

    def discounted(self, user: str, options: ListOptions) -> ListOptions:
        """Return options with the discounts of what a user was shown, where the options say how a user tires.

        The list of the same id counts for nothing, so that a request sent again gets the same list.

        Cost: nothing where the options do not ask for it; else a read of the store, and one more where events came
        since the last list.
        """
        if options.fatigue is None:
            return options
        shown = [one for one in self.of(user) if one.list_id != options.list_id]
        return replace(options, discounts=discounts_of(shown, options.fatigue, int(self._clock() * 1e6)))

    def in_request(self, request: IngestRequest) -> IngestRequest:
        """Return a request with events whose list, if it wants one, has the discounts of its user."""
        if request.options is None or not request.events:
            return request
        options = self.discounted(request.events[-1].user, request.options)
        return request if options is request.options else replace(request, options=options)

    def note(self, lists: Iterable[tuple[str, ListOptions | None, Answer | None]]) -> None:
        """Note the lists that some users get, in one commit, where their options ask for it.

        A list whose id is noted already is not noted again, and nothing is noted of a user who was erased. Where the
        store cannot write, lists are answered all the same, and the log of the process says so.
        """
        left: list[tuple[str, ShownList]] = []
        for user, options, answer in lists:
            if options is not None and options.fatigue and options.list_id and answer is not None and answer.items:
                items = [line.item for line in answer.items[:ITEMS]]
                left.append((user, ShownList(options.list_id, int(self._clock() * 1e6), items)))
        if not left:
            return
        try:
            for _ in range(TRIES):
                left = left and self._note(left)
        except StoreError as error:
            logger.error("impressions: expected to note %d lists, came %s", len(left), type(error).__name__)

    def _note(self, lists: list[tuple[str, ShownList]]) -> list[tuple[str, ShownList]]:
        """Note lists, and return those of users whose events came meanwhile."""
        names = list(dict.fromkeys(user for user, _ in lists))
        heads = dict(zip(names, self._store.heads(names, IMPRESSIONS), strict=True))
        by_owner: dict[str, list[tuple[str, ShownList]]] = {}
        for user, one in lists:
            by_owner.setdefault(heads[user].user, []).append((user, one))
        writes = {owner: self._write(heads[some[0][0]], [one for _, one in some]) for owner, some in by_owner.items()}
        done = [write for write in writes.values() if write is not None]
        outcomes = self._store.commit(done) if done else []
        late = {write.user for write, outcome in zip(done, outcomes, strict=True) if isinstance(outcome, Stale)}
        return [one for owner in late for one in by_owner[owner]]

    def _write(self, head: Head, new: list[ShownList]) -> Write | None:
        kept = self._read(head)
        noted = {one.list_id for one in kept}
        fresh = {one.list_id: one for one in new if one.list_id not in noted}
        if head.erased or not fresh:
            return None
        kept = [*kept, *fresh.values()][-LISTS:]
        while len(data := msgspec.msgpack.encode(kept)) > BYTES and len(kept) > 1:
            kept = kept[1:]
        return Write(head.user, head.version, states={IMPRESSIONS: data})

    def _read(self, head: Head) -> list[ShownList]:
        if head.state is None or head.erased:
            return []
        shown = msgspec.msgpack.decode(head.state.data, type=list[ShownList])
        if head.fresh or not shown:
            return shown
        since = min(max(head.version - head.state.version, 1), EVENTS)
        taken = {event.item for event in self._store.events(head.user, limit=since, backwards=True)}
        return [one._replace(items=[item for item in one.items if item not in taken]) for one in shown]
