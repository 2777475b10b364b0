"""Events in, lists out, nothing lost: what the server does, without HTTP.

Knows: which model answers whom, what is refused, how a request becomes an answer.
Does not know: how requests travel, how a store keeps its promises, how a list is made of scores.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from segue.errors import ArgumentError, NotFoundError, SegueError, StoreError
from segue.recommend.batch import observe_each, observe_long, state_to_bytes
from segue.recommend.filters.fields import Where
from segue.recommend.index.approximate import ApproximateIndex
from segue.recommend.lists.candidates import check_filter
from segue.recommend.lists.explain import Explanation
from segue.recommend.lists.item_filters import Rule
from segue.recommend.lists.options import ListOptions, RankedList
from segue.recommend.recommender import Recommender
from segue.recommend.similar import similar
from segue.recommend.state import State, picture
from segue.serve.live.background import Background, checked
from segue.serve.live.catalogue_overrides import Changes
from segue.serve.live.erasure_receipt import Receipt, receipt
from segue.serve.live.explain import explain
from segue.serve.live.ingest import PendingWrite, current_state, erased_user, next_turn, plan_writes, why_refused
from segue.serve.live.leases import RENEWED
from segue.serve.live.replay import current_stored, read_state, without
from segue.serve.live.rollout import ModelFolder, Rollout, ServedModel
from segue.serve.live.state_tokens import body_of, state_of
from segue.serve.live.trend_follower import TrendFollower
from segue.serve.ranking.event_ranks import RankedEvent
from segue.serve.ranking.list_requests import ListRequest, rank
from segue.serve.ranking.online_metrics import OnlineMetrics, ShadowMetrics
from segue.serve.ranking.types import (
    Answer,
    IngestRequest,
    IngestResult,
    Rating,
    RecommendRequest,
    Status,
    TrendStatus,
    UserView,
)
from segue.serve.scenarios.arms import Arms
from segue.serve.scenarios.kept_impressions import KeptImpressions
from segue.serve.scenarios.kept_scenarios import KeptScenarios
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
        models: the folder of the models that may be rolled out; None allows no roll-out.
        clock: seconds since 1970.
        found: how the lists of `rec` are found, in a sentence, for the status.
        path: the file of `rec`, if it came from one.
        shadow: a model that reads the same events and ranks them, and answers nobody.
        committed: is called with the seconds of each commit of events, in which lists are made.
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
        committed: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        if shadow is not None and shadow.fingerprint == rec.fingerprint:
            raise ArgumentError("--shadow: expected another model than the one that runs, came the same. Leave it.")
        self.store, self.clock, self.metrics, self.shadow_metrics = store, clock, OnlineMetrics(), ShadowMetrics()
        self._committed = committed
        self.changes, self.scenarios = Changes(store), KeptScenarios(store)
        self._impressions = KeptImpressions(store, lambda: self.clock())
        self.arms = Arms(self.scenarios, lambda: self.clock())
        self._trends = TrendFollower(store, self._lay_out)
        running = ServedModel(self._applied(rec), rec, found, path)
        beside = ServedModel(self._applied(shadow), shadow) if shadow else None
        self._rollout = Rollout(store, running, models, self._applied, beside)
        self._lock, self._changing = threading.Lock(), threading.RLock()  # of events, and of items and rules
        self._threads = [self._rollout.worker, self._trends.thread]
        self._trends.start()
        if not store.exclusive:
            self._threads.append(Background("segue-follow", self._follow, every=FOLLOWED))
            self._threads[-1].start()

    @property
    def rec(self) -> Recommender:
        """The model that answers those who are caught up."""
        return self._rollout.running.rec

    @property
    def shadow(self) -> Recommender | None:
        """The model in the shadow, if there is one."""
        return self._rollout.shadow_rec

    @property
    def _known(self) -> Recommender:
        """The same with the items alone that it knows by training or by attributes, not those met since."""
        return self.rec.with_trends(None)

    def _applied(self, rec: Recommender) -> Recommender:
        return self._trends.bound(self.changes.applied(rec))

    # --- events -----------------------------------------------------------------------------------------------

    def ingest(self, requests: Sequence[IngestRequest]) -> list[IngestResult | SegueError]:
        """Put the events of requests on disk in one commit, and return for each request its result, with a list.

        This is the way of an event, for one event as for a batch: plan, begin, rank, on disk. All events of a request
        are kept or none. An error of one request stands in its place and spoils no other request. A retry under the
        same ids gets the original events and today's list.

        Returns:
            For each request IngestResult, or ConflictError, ErasedError, ArgumentError (an event of the future, a
            rating outside the scale), StoreError (it could not be put on disk; all is as before).

        Cost: one step of the network for each round of events, one commit; a rating adds a row and moves two sums,
        O(1), in the same commit. Nothing grows with histories but where an event came late.
        """
        now, requests = (
            int(self.clock() * 1e6),
            [self._impressions.in_request(one) for one in self.arms.noted(requests)],
        )
        pending = [PendingWrite(each, refused=why_refused(self.rec, self.store, each, now)) for each in requests]
        vain = 0
        while vain < ATTEMPTS and (turn := next_turn(pending)):
            settled = sum(write.settled for write in turn)
            with self._lock:  # one batch at a time: the order of arrival is the order of the log
                for rec, batch in self._by_model(turn):
                    try:
                        plan = plan_writes(rec, self.store, batch, self._rollout.beside(rec))
                        began = time.perf_counter()
                        with self.store.begin(plan.writes) as outcomes:  # on disk when the block ends
                            plan.settle(outcomes)
                            lists, ranks = self._rank(plan.list_requests(), plan.ranked)
                    except SegueError as error:
                        for write in batch:
                            write.refused = write.refused or error
                        continue
                    self._committed(time.perf_counter() - began)
                    for write, answer in zip(plan.listed, lists, strict=True):
                        write.answer = answer
                    self._count(ranks)
                    for user in plan.behind():
                        self._rollout.rebuild_later(user)
            vain += settled == sum(write.settled for write in turn)  # another replica wrote first
        slow = StoreError(f"expected to write within {ATTEMPTS} attempts, other writers were faster. Send it again.")
        for write in pending:
            write.refused = write.refused or (None if write.done else slow)
        self._list_rest([write for write in pending if write.wants_list and write.answer is None])
        listed = [
            (write.request.events[-1].user, write.request.options, write.answer) for write in pending if write.answer
        ]
        self._impressions.note(listed)
        return [write.result() for write in pending]

    def _home(self, users: Sequence[str]) -> ServedModel:
        """Return the model that answers some users; the arm of the last of them, who gets the list, decides."""
        return self._rollout.home(users, shadow=self.arms.by_shadow(users[-1]))

    def _by_model(self, turn: Sequence[PendingWrite]) -> list[tuple[Recommender, list[PendingWrite]]]:
        """Return requests by the model of their users; in a roll-out each user stays with theirs until caught up."""
        batches: dict[str, tuple[Recommender, list[PendingWrite]]] = {}
        for write in turn:
            rec = self._home([event.user for event in write.request.events]).rec
            batches.setdefault(rec.fingerprint, (rec, []))[1].append(write)
        return list(batches.values())

    def _list_rest(self, rest: Sequence[PendingWrite]) -> None:
        """Make the lists that no plan had the states for, such as those of retries, by the states of the store."""
        wanted: list[tuple[PendingWrite, ListRequest]] = []
        for write in rest:
            try:
                rec, state, rebuilding, head = self._state(write.request.events[-1].user)
                wanted.append((write, write.list_request(rec, state, rebuilding=rebuilding, who=head.user)))
            except SegueError as error:  # such as a user erased since
                write.refused = error
        lists, _ = self._rank([request for _, request in wanted])
        for (write, _), answer in zip(wanted, lists, strict=True):
            write.answer = answer

    # --- lists ------------------------------------------------------------------------------------------------

    def _rank(
        self, requests: Sequence[ListRequest], ranked: Sequence[tuple[State, Event]] = ()
    ) -> tuple[list[Answer], dict[str, list[RankedEvent]]]:
        return rank(self._rollout.models(), self.changes.filters, requests, ranked)

    def _list(self, request: ListRequest) -> Answer:
        return self._rank([request])[0][0]

    def _count(self, ranks: Mapping[str, list[RankedEvent]]) -> None:
        shadow = self._rollout.shadow_rec
        for rec in self._rollout.models():
            lines, beside = ranks.get(rec.fingerprint, []), shadow is not None and rec.fingerprint == shadow.fingerprint
            self.arms.count(lines, "shadow" if beside else "running")
            if not beside:
                self.metrics.count(rec, lines)
                if shadow is not None:
                    self.shadow_metrics.count(rec, lines, shadow, ranks.get(shadow.fingerprint, []))

    def recommend(self, user: str, options: ListOptions) -> Answer:
        """Return the list of a user; one that nobody knows gets that of a new user.

        Raises:
            ErasedError: the user was erased.
            ArgumentError: a filter names no attribute.
        """
        rec, state, rebuilding, head = self._state(user)
        options = self._impressions.discounted(user, options)
        answer = self._list(ListRequest(rec, state, options, rebuilding=rebuilding, who=head.user.encode()))
        self._impressions.note([(user, options, answer)])
        return answer

    def recommend_each(self, requests: Sequence[RecommendRequest]) -> list[Answer | SegueError | None]:
        """Return the lists of several users, whose scores come in one product.

        Returns:
            For each an Answer, or ErasedError; None where the state is not at hand, so that `recommend` has to replay
            events, for which the others here should not wait.
        """
        found = [self._at_hand(one) for one in requests]
        lists = [one for one in found if isinstance(one, ListRequest)]
        made = self._rank(lists)[0]
        self._impressions.note((one.who.decode(), one.options, answer) for one, answer in zip(lists, made, strict=True))
        answers = iter(made)
        return [next(answers) if isinstance(one, ListRequest) else one for one in found]

    def _at_hand(self, request: RecommendRequest) -> ListRequest | SegueError | None:
        """Return the list that is wanted; None where the state is not there and up to date."""
        try:
            rec = self._home([request.user]).rec
            head = self.store.head(request.user, rec.fingerprint)
        except SegueError as error:
            return error
        if head.erased:
            return erased_user()
        try:
            check_filter(rec, request.options)  # an error of one filter spoils no other list
            options = self._impressions.discounted(request.user, request.options)
        except SegueError as error:
            return error
        state = current_stored(rec, head)
        return None if state is None else ListRequest(rec, state, options, who=head.user.encode())

    def predict_rating(self, user: str, item: str, at: int | None = None) -> Rating:
        """Return the rating that is predicted of a user for an item, by all ratings so far; an unknown user is new.

        Ratings of others since the training move it by the shared value of the model, which the store keeps.

        Args:
            user: who.
            item: its id; an unknown one is rated as the user rates.
            at: the time of the request, microseconds since 1970; None when unknown.

        Raises:
            ErasedError: the user was erased.
            ArgumentError: the model was trained without ratings.
        """
        rec, state, rebuilding, _ = self._state(user)
        shared = self.store.shared(rec.fingerprint, [rec.vocabulary.learnt_row(item)])
        found = rec.rating_distribution(state, item, at=None if at is None else at / 1e6, shared=shared)
        return Rating(item, found, item in rec.vocabulary, rec.fingerprint, state.count, rebuilding)

    def _state(self, user: str) -> tuple[Recommender, State, bool, Head]:
        """Return the model that answers a user, their state, whether it lacks events, and their head."""
        rec = self._home([user]).rec
        head = self.store.head(user, rec.fingerprint)
        if head.erased:
            raise erased_user()
        current = current_state(rec, self.store, head)
        if current is None:
            self._rollout.rebuild_later(head.user)
            return rec, read_state(rec, head) or rec.start(), True, head
        if not head.fresh and head.count:
            states, replayed = {rec.fingerprint: state_to_bytes(current.state)}, {rec.fingerprint: current.rated}
            kept = Write(head.user, head.version, states=states, snapshots=current.snapshots, replayed=replayed)
            self.store.commit([kept])
        return rec, current.state, False, head

    def recommend_history(
        self, history: Sequence[Event], options: ListOptions, profile: Mapping[str, object] | None = None
    ) -> Answer:
        """Return the list of somebody with this history and profile; nothing is stored.

        Raises:
            ArgumentError: a rating lies outside the scale, or a filter names no attribute.
        """
        rec = self.rec
        for one in history:
            rec.check_rating(one.item, one.rating)
        state = observe_long(rec, rec.start(profile), list(history))
        who = b"".join(event.digest for event in history) + state_to_bytes(state)
        return self._list(ListRequest(rec, state, options, events=history, who=who))

    def new_token(self, profile: Mapping[str, object] | None = None) -> bytes:
        """Return the state of a new user as bytes that a client may hold; `recommend_token` reads them."""
        return body_of(self.rec, self.rec.start(profile))

    def recommend_token(self, token: bytes, event: Event | None, options: ListOptions) -> tuple[Answer, bytes]:
        """Return the list of a state that a client holds, after one more event, and the state after it.

        Raises:
            ConflictError: the token is of another model.
            ArgumentError: the rating lies outside the scale, or a filter names no attribute.
        """
        rec, events = self.rec, () if event is None else (event,)
        state = state_of(rec, token)
        for one in events:
            rec.check_rating(one.item, one.rating)
            state = observe_each(rec, [state], [one])[0]
        after = body_of(rec, state)
        return self._list(ListRequest(rec, state, options, events=events, who=after)), after

    def similar(self, item: str, k: int = 10, mix: float = 0.5, where: Where = None) -> RankedList:
        """Return what is like an item; see `Recommender.similar`."""
        rec, now = self.rec, int(self.clock() * 1e6)
        return similar(rec, item, k, mix, self.changes.filters(rec).shown, where, now)

    def explain(
        self, user: str, item: str | None = None, *, last: int = 20, options: ListOptions | None = None
    ) -> Explanation[StoredEvent]:
        """Return how much each of a user's last events raised the score of an item, by replay without it."""
        rec, state, _, head = self._state(user)
        return explain(rec, self.store, head, state, item, last, options or ListOptions(), self.changes.filters(rec))

    def what_if(self, user: str, left_out: Iterable[int], options: ListOptions) -> Answer:
        """Return the list of a user who had not done some of the last events (by `seq`); nothing is written.

        Raises:
            ArgumentError: an event is not among the last 1,000 of the user.
        """
        rec, state, _, head = self._state(user)
        if numbers := frozenset(left_out):
            state = without(rec, self.store, head, numbers)
        return self._list(ListRequest(rec, state, options, who=head.user.encode()))

    # --- users ------------------------------------------------------------------------------------------------

    def user(self, user: str, *, limit: int = 100, before: StoredEvent | None = None) -> UserView:
        """Return what is known of a user.

        Raises:
            NotFoundError: nothing is.
            ErasedError: the user was erased.
        """
        rec, state, rebuilding, head = self._state(user)
        if not head.count:
            raise NotFoundError("user: expected one with events, there is none of this name. Send an event first.")
        after = None if before is None else before.position
        events = self.store.events(head.user, limit=limit, backwards=True, after=after)
        body = state_to_bytes(state)
        titles = {event.item: title for event in events if (title := rec.title(event.item)) is not None}
        return UserView(head.user, events, titles, head.count, rec.fingerprint, len(body), rebuilding, picture(state))

    def erase_event(self, user: str, event: str | int, client: str = "") -> Receipt:
        """Erase an event, by the id that a client gave it or by its `seq`; the state is that of one who never did it.

        Done again it is done; see `erasing.erase_event`.
        """
        done = erase_event(self.store, user, event if isinstance(event, int) else (client, event))
        self._reckon(user)
        return receipt("event", int(done), self._rollout.models(), already=not done)

    def erase_user(self, user: str) -> Receipt:
        """Erase a user with everything that is kept of them, and block the id. See `erasing.erase_user`."""
        count, already = erase_user(self.store, user, self.rec.fingerprint)
        self.arms.forget(user)
        return receipt("user", count, self._rollout.models(), already=already)

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
        if any(rec.network.rating is not None for rec in self._rollout.models()):
            self._rollout.rebuild_later(user)

    # --- items and models ------------------------------------------------------------------------------------

    def add_items(self, items: pl.DataFrame | Sequence[Mapping[str, Any]]) -> int:
        """Make new items known by what they are, at once and after a restart; return how many were new.

        Cost: O(all items x width) for each call, so many items are best added in one; events and lists do not wait
        meanwhile.
        """
        with self._changing:
            before = len(self._known.items)
            self.changes.add_items(items, self._known)
            self._lay_out()
            return len(self._known.items) - before

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
            self.changes.change_item(self.rec, item, available, attributes or {})
            self._lay_out()

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Keep the rules of the shop (pin, block, boost), applied in this order after scoring.

        Raises:
            ArgumentError: a rule names an attribute that items do not have.
        """
        with self._changing:
            self.changes.set_rules(rules, self.rec)
            self._lay_out()

    def preview_rules(self, user: str, rules: Sequence[Rule], options: ListOptions) -> tuple[Answer, Answer]:
        """Return the list of a user by the rules that hold, and by others. Nothing is kept.

        Raises:
            ErasedError: the user was erased.
            ArgumentError: a rule names an attribute that items do not have.
        """
        rec, state, rebuilding, head = self._state(user)
        request = ListRequest(rec, state, options, rebuilding=rebuilding, who=head.user.encode())
        return self._list(request), rank([], lambda _: self.changes.tried(rec, rules), [request])[0][0]

    def _lay_out(self) -> None:
        """Lay the changes over the models, and what may be shown, before the next request."""
        with self._changing:
            self._rollout.refresh()
            for rec in self._rollout.models():
                self.changes.filters(rec)

    def online_metrics(self) -> dict[str, Any]:
        """Return the online metrics, and those of the model in the shadow on the same events."""
        shadow = self._rollout.shadow
        beside = (
            {} if shadow is None else {"shadow_model": shadow.rec.fingerprint, "shadow": self.shadow_metrics.snapshot()}
        )
        return {**self.metrics.snapshot(), **beside, "experiments": self.arms.snapshot()}

    def index_recall(self) -> float:
        """Return the share of the exact best that lists hold, measured when the index was built; 1 without one."""
        index = self.rec.index
        return index.facts.recall if isinstance(index, ApproximateIndex) else 1.0

    def roll_out(self, model: str | Path) -> str:
        """Begin to answer from another model of the folder, or of a file; users follow when their state has caught up.

        Raises:
            NotFoundError: there is no such file in the folder, or no folder was given.
            ModelError: it is not a whole model.
        """
        fingerprint = self._rollout.begin(model if isinstance(model, Path) else self._rollout.named(model))
        self._lay_out()  # what was changed while it was read
        return fingerprint

    def models(self) -> ModelFolder:
        """Return the models that may be rolled out, and those that answer and answered before."""
        return self._rollout.folder()

    def roll_back(self) -> str:
        """Roll back to the model before the last roll-out.

        Raises:
            NotFoundError: there was no roll-out.
        """
        return self._rollout.roll_back()

    def status(self) -> Status:
        """Return where the server stands."""
        rollout, rec = self._rollout, self.rec
        name = coming.rec.fingerprint if (coming := rollout.coming) else None
        scale = rec.network.rating.scale if rec.network.rating else None
        return Status(
            rec.fingerprint,
            name,
            rollout.caught_up,
            checked(self._threads, self.store.ready()),
            len(self._known.items),
            self.changes.filters(rec).unavailable,
            rollout.running.found,
            scale.levels if scale and scale.closed else (),
            self.trends(),
            rec.encoders.event_types,
        )

    def trends(self) -> TrendStatus | None:
        """Return where the trends stand that lists follow; None where the model has no ranker."""
        return self._trends.status(self.rec)

    def faults(self) -> dict[str, int]:
        """Return how many errors each thread in the background has met, and gone on."""
        return {thread.name: thread.errors for thread in self._threads}

    def _follow(self) -> None:
        """Take over what other replicas changed of items, rules and scenarios, and say which models are used here."""
        if self.scenarios.overtaken():
            self.scenarios.follow()
        if self.changes.overtaken():
            with self._changing:
                self.changes.follow()
                self._lay_out()
        self._rollout.renew(after=RENEWED)

    def settle(self, seconds: float = 600.0) -> bool:
        """Wait until nothing is left to do in the background, and return whether it is so."""
        return self._rollout.wait(seconds) and self._trends.wait(seconds)

    def close(self) -> None:
        """Stop the work in the background."""
        self._trends.close()
        for thread in self._threads[1:]:
            thread.stop()
        self._rollout.close()
