"""Events in, lists out, nothing lost: what the server does, without HTTP.

Knows: which model answers whom, what is refused, how a request becomes an answer.
Does not know: how requests travel, how a store keeps its promises, how a list is made of scores.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from segue.data.values.lookup import first
from segue.errors import ArgumentError, ConflictError, NotFoundError, SegueError, StoreError
from segue.model.backend import leaves
from segue.recommend.batch import observe_each, observe_long, state_from_bytes, state_to_bytes
from segue.recommend.index.approximate import ApproximateIndex
from segue.recommend.recommender import Item, Recommender
from segue.recommend.similar import similar
from segue.recommend.state import State
from segue.serve.live.background import Background, checked
from segue.serve.live.catalogue_overrides import Changes
from segue.serve.live.erasure_receipt import Receipt, receipt
from segue.serve.live.explain import Explanation, explain
from segue.serve.live.ingest import Entry, check_events, current_state, forgotten, next_turn, write_all
from segue.serve.live.leases import RENEWED
from segue.serve.live.online_metrics import Judged, LiveQuality, Trial
from segue.serve.live.replay import read_state, without
from segue.serve.live.rollout import Running, Swaps
from segue.serve.ranking.item_filters import Rule, rows_of
from segue.serve.ranking.list_requests import Wanted, make_lists, score
from segue.serve.ranking.types import Answer, Ask, Question, Rating, Status, Tell, Told, UserView
from segue.store.base import Head, Store, Write
from segue.store.erasure import erase_event, erase_user
from segue.store.events import Event, StoredEvent

#: How often in a row writes that came too late for their versions are computed again, all in vain.
ATTEMPTS = 8
#: Seconds after which a change of items or rules by another replica is looked for.
FOLLOWED = 0.5


class Service:
    """A recommender over a store. Every method may be called from any thread.

    Args:
        rec: the model that answers.
        store: where events and states are kept; the service does not close it.
        models: the folder of the models that may be swapped in; None allows no swap.
        clock: seconds since 1970.
        found: how the lists of `rec` are found, in a sentence, for the status.
        path: the file of `rec`, if it came from one.
        shadow: a model that reads the same events and ranks them, and answers nobody.
    """

    def __init__(
        self,
        rec: Recommender,
        store: Store,
        *,
        models: Path | None = None,
        clock: Callable[[], float] = time.time,
        found: str = "",
        path: Path | None = None,
        shadow: Recommender | None = None,
    ) -> None:
        if shadow is not None and shadow.fingerprint == rec.fingerprint:
            raise ArgumentError("--shadow: expected another model than the one that runs, came the same. Leave it.")
        self.store, self.clock, self.quality, self.trial = store, clock, LiveQuality(), Trial()
        self._changes = Changes(store)
        running = Running(self._changes.applied(rec), rec, found, path)
        beside = Running(self._changes.applied(shadow), shadow) if shadow else None
        self._swaps = Swaps(store, running, models, self._changes, beside)
        self._lock, self._changing = threading.Lock(), threading.Lock()  # of events, and of items and rules
        self._threads = [self._swaps.worker]
        if not store.exclusive:
            self._threads.append(Background("segue-follow", self._follow, every=FOLLOWED))
            self._threads[-1].start()

    @property
    def rec(self) -> Recommender:
        """The model that answers those who are caught up."""
        return self._swaps.running.rec

    # --- events -----------------------------------------------------------------------------------------------

    def tell(self, requests: Sequence[Tell]) -> list[Told | SegueError]:
        """Put the events of many requests on disk in one commit, and return for each what came of it.

        All events of a request are kept or none; an error of one request stands in its place and spoils no
        other. A retry under the same ids gets the original events and today's list.

        Returns:
            For each request Told, or ConflictError, ErasedError, ArgumentError (an event of the future, a rating
            outside the scale), StoreError (it could not be put on disk; all is as before).

        Cost: one step of the network for each round of events, one commit; a rating adds a row and moves two sums,
        O(1), in the same commit. Nothing grows with histories but where an event came late.
        """
        return self.answer(self.write(requests))

    def write(self, requests: Sequence[Tell]) -> list[Entry]:
        """Do the first half of `tell`: put the events on disk."""
        entries = [Entry(request, refused=self._refused(request)) for request in requests]
        vain, settled = 0, 0
        while vain < ATTEMPTS and (some := next_turn(entries)):
            with self._lock:  # one batch at a time: the order of arrival is the order of the log
                self._write(some)
            before, settled = settled, sum(len(entry.kept) + (entry.refused is not None) for entry in entries)
            vain += settled == before
        slow = StoreError(f"expected to write within {ATTEMPTS} attempts, other writers were faster. Send it again.")
        for entry in entries:
            entry.refused = entry.refused or (None if entry.done else slow)
        return entries

    def answer(self, entries: Sequence[Entry]) -> list[Told | SegueError]:
        """Do the second half of `tell`: make the lists, and count how well the events were foreseen."""
        wanted: dict[int, Wanted] = {}
        for n, entry in enumerate(entries):
            if entry.refused is None and entry.answer is None and entry.tell.question is not None:
                try:
                    wanted[n] = self._wanted(entry, entry.tell.question)
                except SegueError as error:  # such as a user erased since
                    entry.refused = error
        answers, judged = self._lists(wanted, [pair for one in entries if not one.refused for pair in one.before])
        self._count(judged)
        return [entry.refused or _told(entry, entry.answer or answers.get(n)) for n, entry in enumerate(entries)]

    def _wanted(self, entry: Entry, question: Question) -> Wanted:
        """Return the list that is wanted after what was told, by the state that the store has."""
        events = entry.tell.events
        rec, state, rebuilding, head = self._state(events[-1].user)
        return Wanted(rec, state, question, events[-1].time, events, rebuilding, head.user.encode())

    def _ahead(self, rec: Recommender, entries: Sequence[Entry]) -> dict[str, list[Judged]]:
        """Make the lists of what is being put on disk, where all they need is at hand, and rank its events."""
        wanted: dict[int, Wanted] = {}
        before: list[tuple[State, Event]] = []
        for n, entry in enumerate(entries):
            question, after, events = entry.tell.question, entry.after, entry.tell.events
            if entry.done and after is not None and question is not None:
                wanted[n] = Wanted(rec, after, question, events[-1].time, events, who=events[-1].user.encode())
            before += entry.before
            entry.before = []
        answers, judged = self._lists(wanted, before)
        for n, answer in answers.items():
            entries[n].answer = answer
        return judged

    def _refused(self, request: Tell) -> SegueError | None:
        """Return why a request is not to be written; what was kept under the same ids before is never refused anew."""
        try:
            check_events(self.rec, request, int(self.clock() * 1e6))
        except ArgumentError as error:
            ids = [event.id for event in request.events]
            known = ids and all(id is not None and self.store.find_event(request.client, id) for id in ids)
            return None if known and len(set(ids)) == len(ids) else error
        return None

    def _write(self, entries: Sequence[Entry]) -> None:
        """Write what can be written now; while a model is swapped in, each user stays with theirs until caught up."""
        homes: dict[str, tuple[Running, list[Entry]]] = {}
        for entry in entries:
            running = self._swaps.home([event.user for event in entry.tell.events])
            homes.setdefault(running.rec.fingerprint, (running, []))[1].append(entry)
        for running, some in homes.values():
            self._write_home(running.rec, some)

    def _write_home(self, rec: Recommender, entries: Sequence[Entry]) -> None:
        """Write for users of one model, and make their lists while it is put on disk."""
        judged: dict[str, list[Judged]] = {}
        shadow = self._swaps.shadow.rec if self._swaps.shadow else None
        try:
            behind, shadows = write_all(
                rec, self.store, entries, shadow, meanwhile=lambda: judged.update(self._ahead(rec, entries))
            )
        except SegueError as error:
            for entry in entries:
                entry.refused = entry.refused or error
            return
        self._count(judged)
        for user in {*behind, *shadows}:
            self._swaps.rebuild_later(user)

    # --- lists ------------------------------------------------------------------------------------------------

    def _lists(
        self, wanted: Mapping[int, Wanted], before: Sequence[tuple[State, Event]] = ()
    ) -> tuple[dict[int, Answer], dict[str, list[Judged]]]:
        return make_lists(self._swaps.bundles(), self._changes.shelf, wanted, before)

    def _count(self, judged: Mapping[str, list[Judged]]) -> None:
        shadow = self._swaps.shadow
        for rec in self._swaps.bundles():
            lines = judged.get(rec.fingerprint, [])
            if shadow is None or rec.fingerprint != shadow.rec.fingerprint:
                self.quality.count(rec, lines)
                if shadow is not None:
                    self.trial.count(rec, lines, shadow.rec, judged.get(shadow.rec.fingerprint, []))

    def _list(self, wanted: Wanted) -> Answer:
        return score(wanted.rec, self._changes.shelf(wanted.rec), [wanted])[0][0]

    def ask(self, user: str, question: Question) -> Answer:
        """Return the list of a user; one that nobody knows gets that of a new user.

        Raises:
            ErasedError: the user was erased.
            ArgumentError: a filter names no attribute.
        """
        rec, state, rebuilding, head = self._state(user)
        return self._list(Wanted(rec, state, question, rebuilding=rebuilding, who=head.user.encode()))

    def ask_each(self, asks: Sequence[Ask]) -> list[Answer | SegueError | None]:
        """Return the lists of several users, whose scores come in one product.

        Returns:
            For each an Answer, or ErasedError; None where the state is not at hand, so that `ask` has to replay
            events, for which the others here should not wait.
        """
        found = [self._at_hand(ask) for ask in asks]
        answers, _ = self._lists({n: one for n, one in enumerate(found) if isinstance(one, Wanted)})
        return [answers.get(n) or (None if isinstance(one, Wanted) else one) for n, one in enumerate(found)]

    def _at_hand(self, ask: Ask) -> Wanted | SegueError | None:
        """Return the list that is wanted; None where the state is not there and up to date."""
        try:
            rec = self._swaps.home([ask.user]).rec
            head = self.store.head(ask.user, rec.fingerprint)
        except SegueError as error:
            return error
        if head.erased:
            return forgotten()
        state = read_state(rec, head) if head.fresh else None if head.count else rec.start()
        return None if state is None else Wanted(rec, state, ask.question, who=head.user.encode())

    def rate(self, user: str, item: str, at: int | None = None) -> Rating:
        """Return what a user would think of an item, by all ratings so far; one nobody knows is new.

        Ratings of others since the training move it by the shared value of the model, which the store keeps.

        Args:
            user: who.
            item: its id; an unknown one is rated as the user rates.
            at: the time of the question, microseconds since 1970; None when unknown.

        Raises:
            ErasedError: the user was erased.
            ArgumentError: the model was trained without ratings.
        """
        rec, state, rebuilding, _ = self._state(user)
        shared = self.store.shared(rec.fingerprint, [rec.vocabulary.row(item)])
        found = rec.rating_distribution(state, item, at=None if at is None else at / 1e6, shared=shared)
        return Rating(item, found, item in rec.vocabulary, rec.fingerprint, state.count, rebuilding)

    def _state(self, user: str) -> tuple[Recommender, State, bool, Head]:
        """Return the model that answers a user, their state, whether it lacks events, and their head."""
        running = self._swaps.home([user])
        rec = running.rec
        head = self.store.head(user, rec.fingerprint)
        if head.erased:
            raise forgotten()
        current = current_state(rec, self.store, head)
        if current is None:
            self._swaps.rebuild_later(head.user)
            return rec, read_state(rec, head) or rec.start(), True, head
        if not head.fresh and head.count:
            states, replayed = {rec.fingerprint: state_to_bytes(current.state)}, {rec.fingerprint: current.rated}
            kept = Write(head.user, head.version, states=states, snapshots=current.snapshots, replayed=replayed)
            self.store.commit([kept])
        return rec, current.state, False, head

    def ask_history(
        self, history: Sequence[Event], question: Question, profile: Mapping[str, object] | None = None
    ) -> Answer:
        """Return the list of somebody with this history and profile; nothing is stored.

        Raises:
            ArgumentError: a rating lies outside the scale, or a filter names no attribute.
        """
        rec = self.rec
        _check_ratings(rec, history)
        state = observe_long(rec, rec.start(profile), list(history))
        who = b"".join(event.digest for event in history) + state_to_bytes(state)
        return self._list(Wanted(rec, state, question, events=history, who=who))

    def new_token(self, profile: Mapping[str, object] | None = None) -> bytes:
        """Return the state of a new user as bytes that a client may hold; `ask_token` reads them."""
        return self.rec.fingerprint.encode()[:64] + state_to_bytes(self.rec.start(profile))

    def ask_token(self, token: bytes, event: Event | None, question: Question) -> tuple[Answer, bytes]:
        """Return the list of a state that a client holds, after one more event, and the state after it.

        Raises:
            ConflictError: the token is of another model.
            ArgumentError: the rating lies outside the scale, or a filter names no attribute.
        """
        rec = self.rec
        _check_ratings(rec, () if event is None else (event,))
        if token[:64].decode(errors="replace") != rec.fingerprint[:64]:
            raise ConflictError("token: expected a state of the running model, came one of another. Begin a new one.")
        state = state_from_bytes(rec, token[64:])
        if event is not None:
            state = observe_each(rec, [state], [event])[0]
        events = () if event is None else (event,)
        after = state_to_bytes(state)
        return self._list(Wanted(rec, state, question, events=events, who=after)), token[:64] + after

    def similar(self, item: str, k: int = 10, mix: float = 0.5) -> list[Item]:
        """Return what is like an item; see `Recommender.similar`."""
        rec = self.rec
        return similar(rec, item, k, mix, self._changes.shelf(rec).shown)

    def explain(
        self, user: str, item: str | None = None, *, last: int = 20, question: Question | None = None
    ) -> Explanation:
        """Return how much each of a user's last events raised the score of an item, by replay without it."""
        rec, state, _, head = self._state(user)
        return explain(rec, self.store, head, state, item, last, question or Question(), self._changes.shelf(rec))

    def what_if(self, user: str, left_out: Iterable[int], question: Question) -> Answer:
        """Return the list of a user who had not done some of the last events (by `seq`); nothing is written.

        Raises:
            ArgumentError: an event is not among the last 1,000 of the user.
        """
        rec, state, _, head = self._state(user)
        if numbers := frozenset(left_out):
            state = without(rec, self.store, head, numbers)
        return self._list(Wanted(rec, state, question, who=head.user.encode()))

    # --- users ------------------------------------------------------------------------------------------------

    def user(self, user: str, *, limit: int = 100, before: StoredEvent | None = None) -> UserView:
        """Return what is known of a user.

        Raises:
            NotFoundError: nothing is.
            ErasedError: the user was erased.
        """
        rec, state, rebuilding, head = self._state(user)
        if not head.count:
            raise NotFoundError("user: expected one with events, there is none of this name. Tell an event first.")
        after = None if before is None else before.position
        events = self.store.events(head.user, limit=limit, backwards=True, after=after)
        body = state_to_bytes(state)
        titles = _titles(rec, {event.item for event in events})
        return UserView(head.user, events, titles, head.count, rec.fingerprint, len(body), rebuilding, picture(state))

    def erase_event(self, user: str, event: str | int, client: str = "") -> Receipt:
        """Erase an event, by the id that a client gave it or by its `seq`; the state is that of one who never did it.

        Done again it is done; see `erasing.erase_event`.
        """
        done = erase_event(self.store, user, event if isinstance(event, int) else (client, event))
        self._reckon(user)
        return receipt("event", int(done), self._swaps.bundles(), already=not done)

    def erase_user(self, user: str) -> Receipt:
        """Erase a user with everything that is kept of them, and block the id. See `erasing.erase_user`."""
        count, already = erase_user(self.store, user, self.rec.fingerprint)
        return receipt("user", count, self._swaps.bundles(), already=already)

    def readmit(self, user: str) -> bool:
        """Take the id of an erased user again; what was erased stays erased. Return whether it was blocked."""
        return self.store.readmit(user)

    def merge(self, old: str, new: str) -> int:
        """Give all events of one name to another, in the order of time; return how many the user has then."""
        with self._lock:
            self.store.merge(old, new)
        self._reckon(new)
        return self.store.head(new, self.rec.fingerprint).count

    def _reckon(self, user: str) -> None:
        """Find out anew what a user's ratings add to the shared value, now that their past is another."""
        if any(rec.network.rating is not None for rec in self._swaps.bundles()):
            self._swaps.rebuild_later(user)

    # --- items and models ------------------------------------------------------------------------------------

    def add_items(self, items: pl.DataFrame | Sequence[Mapping[str, Any]]) -> int:
        """Make new items known by what they are, at once and after a restart; return how many were new.

        Cost: O(all items x width) for each call, so many items are best added in one; events and lists do not wait
        meanwhile.
        """
        with self._changing:
            before = len(self.rec.items)
            self._changes.add_items(items, self.rec)
            self._lay_out()
            return len(self.rec.items) - before

    def change_item(
        self, item: str, *, available: bool | None = None, attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Take an item out of the lists or back in, or change its attributes.

        Raises:
            NotFoundError: the item is unknown.
            ArgumentError: there is no such attribute, or a value is of another kind than was learnt.

        Cost: that of what changes, and of writing all changes down; events and lists do not wait meanwhile.
        """
        if item not in self.rec.vocabulary:
            raise NotFoundError(f'item "{item}": expected a known item. Add it with POST /v1/items.')
        with self._changing:
            self._changes.change_item(self.rec, item, available, attributes or {})
            self._lay_out()

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Keep the rules of the shop (pin, block, boost), applied in this order after scoring.

        Raises:
            ArgumentError: a rule names an attribute that items do not have.
        """
        for rule in rules:
            rows_of(self.rec, rule)
        with self._changing:
            self._changes.set_rules(rules)
            self._lay_out()

    def _lay_out(self) -> None:
        """Lay the changes over the models, and what may be shown, before anybody asks."""
        self._swaps.refresh()
        for rec in self._swaps.bundles():
            self._changes.shelf(rec)

    def find_items(self, words: str, limit: int = 20) -> list[Item]:
        """Return items whose title or id holds these words. Cost: see `Catalogue.find`."""
        rec = self.rec
        ids = rec.catalogue.find(words, limit) if rec.catalogue else []
        if len(ids) < limit:
            titled = set(ids)
            ids += first((item for item in rec.vocabulary.find(words) if item not in titled), limit - len(ids))
        return [rec._item(rec.vocabulary.row(item), 0.0) for item in ids]

    def live_quality(self) -> dict[str, Any]:
        """Return how well events were foreseen, and how well the model in the shadow foresaw the same ones."""
        shadow = self._swaps.shadow
        beside = {} if shadow is None else {"shadow_model": shadow.rec.fingerprint, "shadow": self.trial.snapshot()}
        return {**self.quality.snapshot(), **beside}

    def index_recall(self) -> float:
        """Return the share of the exact best that lists hold, measured when the index was built; 1 without one."""
        index = self.rec.index
        return index.facts.recall if isinstance(index, ApproximateIndex) else 1.0

    def swap(self, name: str) -> str:
        """Begin to answer from another model of the folder; each user follows when their state has caught up.

        Raises:
            NotFoundError: there is no such file in the folder, or no folder was given.
            ModelError: it is not a whole model.
        """
        return self.swap_to(self._swaps.named(name))

    def swap_to(self, path: Path) -> str:
        """Begin to answer from the model in a file, as `swap` does."""
        fingerprint = self._swaps.begin(path)
        with self._changing:  # what was changed while it was read
            self._lay_out()
        return fingerprint

    def roll_back(self) -> str:
        """Answer from the model before the last swap again.

        Raises:
            NotFoundError: there was no swap.
        """
        return self._swaps.roll_back()

    def status(self) -> Status:
        """Return where the server stands."""
        swaps, rec = self._swaps, self.rec
        shelf = self._changes.shelf(rec)
        coming = swaps.coming
        name = coming.rec.fingerprint if coming else None
        scale = rec.network.rating.scale if rec.network.rating else None
        return Status(
            rec.fingerprint,
            name,
            swaps.caught_up,
            checked(self._threads, self.store.ready()),
            len(rec.items),
            shelf.unavailable,
            swaps.running.found,
            scale.levels if scale and scale.closed else (),
        )

    def faults(self) -> dict[str, int]:
        """Return how many errors each thread in the background has met, and gone on."""
        return {thread.name: thread.errors for thread in self._threads}

    def _follow(self) -> None:
        """Take over what other replicas changed of items and rules, and tell them which models are used here."""
        if self._changes.overtaken():
            with self._changing:
                self._changes.follow()
                self._lay_out()
        self._swaps.renew(after=RENEWED)

    def settle(self, seconds: float = 600.0) -> bool:
        """Wait until nothing is left to do in the background, and return whether it is so."""
        return self._swaps.wait(seconds)

    def close(self) -> None:
        """Stop the work in the background."""
        for thread in self._threads[1:]:
            thread.stop()
        self._swaps.close()


def picture(state: State) -> list[float]:
    """Return at most 256 numbers from -1 to 1 that show a memory."""
    numbers = np.concatenate([array.ravel() for _, array in leaves(state.memory)])
    step = max(1, -(-len(numbers) // 256))
    means = np.array([part.mean() for part in np.array_split(numbers, -(-len(numbers) // step))])
    return [round(float(value), 3) for value in np.tanh(means)]


def _check_ratings(rec: Recommender, events: Iterable[Event]) -> None:
    """Raise `ArgumentError` where a rating cannot be in the scale that a model learnt."""
    for event in events:
        rec.check_rating(event.item, event.rating)


def _titles(rec: Recommender, items: Iterable[str]) -> dict[str, str]:
    found = {item: rec.title(item) for item in items}
    return {item: title for item, title in found.items() if title is not None}


def _told(entry: Entry, answer: Answer | None) -> Told:
    return Told([entry.kept[n] for n in range(len(entry.tell.events))], entry.known, answer)
