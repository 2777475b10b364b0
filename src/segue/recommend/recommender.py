"""The recommender: what callers of a trained model hold, a facade over the parts of this folder."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from segue.config import Repeats
from segue.data.features.catalogue import Catalogue, Profiles
from segue.data.features.feature_encoders import encode_log
from segue.data.log.columns import plain_name
from segue.data.log.events import Events, as_events
from segue.data.sequences.sequences import Sequences, sequence_order
from segue.data.values.ids import ids_of
from segue.data.values.times import microseconds
from segue.errors import ArgumentError
from segue.model.encoder import encode_users
from segue.model.model import Model
from segue.model.transitions import RECENT, pushed
from segue.model_file import read_model, save_model
from segue.recommend.arguments import Time, check_count, check_shares, check_temperature, profiles_of
from segue.recommend.batch import Happened
from segue.recommend.filters.fields import Where
from segue.recommend.index.exact import Index
from segue.recommend.lists.explain import Explanation, explain_history, labels_of, past_events
from segue.recommend.lists.item_filters import Rule
from segue.recommend.lists.live_scores import ranker_of, unknown_keys, with_trends, without_trends
from segue.recommend.lists.options import ListOptions, RankedList
from segue.recommend.lists.rerank import list_of
from segue.recommend.new_items import with_items
from segue.recommend.plan import Plan, plan
from segue.recommend.ratings import Rated, RatingDistribution, Shared, head_of, rate, residuals_of, shared_bias
from segue.recommend.scorer import Item, Scorer
from segue.recommend.similar import pool_for_user, similar
from segue.recommend.state import NO_TIME, Seen, State, States, gap_seconds, gaps_seconds, with_key
from segue.shapes import Bools, Floats
from segue.trends.trends import Trends

__all__ = ["Item", "Recommender", "Time", "load_model"]


@dataclass(frozen=True, eq=False, repr=False)
class Recommender(Scorer):
    """A trained model, ready to recommend. It holds no histories: a user's state goes in and comes out.

    Its fields are those of `segue.model.model.Model`, and the index of `segue.recommend.scorer.Scorer`.
    """

    @classmethod
    def of(cls, model: Model, index: Index | None = None) -> "Recommender":
        """Return the recommender of a model."""
        return cls(**{part.name: getattr(model, part.name) for part in fields(Model)}, index=index)

    @property
    def items(self) -> list[str]:
        """The ids that can be recommended, in the order of the columns of `score`."""
        return self.vocabulary.texts

    def start(self, profile: Mapping[str, object] | None = None) -> State:
        """Return the state of a user without events; `recommend` takes it at once.

        Args:
            profile: values by column of the table of users; None or missing is unknown.

        Raises:
            ArgumentError: a column was not learnt (the message names the learnt ones), or a value is of another kind
                than was learnt. A value that training never met is unknown.
        """
        if not profile:
            return self.new_user
        memory = self.network.start(self.params, profiles=self._profile(profile))
        return replace(self.new_user, memory=memory)

    def observe(
        self,
        state: State,
        item: str,
        *,
        time: Time = None,
        rating: float | None = None,
        type: str | None = None,
        context: Mapping[str, object] | None = None,
    ) -> State:
        """Return the state after one more event; the old state stays as it was.

        Args:
            state: before the event.
            item: its id. An unknown item never raises; the network reads it as *unknown*.
            time: of the event, in seconds since 1970, a datetime or its ISO text; None when unknown.
            rating: its value.
            type: of the event, such as "view" or "buy".
            context: further columns of the log, such as `{"device": "tv"}`. Columns that were not learnt are not read,
                and a value of another kind is unknown: a wrong detail must not lose an event.

        Raises:
            ArgumentError: the state is of another model, the time is not a time, or the rating lies outside the
                scale that the model learnt.

        Cost: one step of the network, the same for every history.
        """
        self._check(state)
        self.check_rating(item, rating)
        now, row = microseconds(time), self.vocabulary.learnt_row(item)
        gap = gap_seconds(now, state.time)
        details = self.details(now, context, type=type, rating=rating)
        rows = np.array([row], np.int32)
        memory = self.network.step(self.params, state.memory, rows, gap, details)
        recent = pushed(state.recent, rows)
        unknown = with_key(state.unknown, row, item)
        return State(memory, now, state.count + 1, state.seen.add(row), self.fingerprint, recent, unknown)

    def observe_all(self, state: State, items: Iterable[str]) -> State:
        """Return the state after several events without times: `observe`, one after the other.

        Raises:
            ArgumentError: `items` is one text.
        """
        for item in ids_of(items, "items"):
            state = self.observe(state, item)
        return state

    def recommend(
        self,
        state: State,
        k: int = 10,
        *,
        at: Time = None,
        type: str | None = None,
        context: Mapping[str, object] | None = None,
        exclude: Iterable[str] = (),
        repeats: Repeats | None = None,
        where: Where = None,
        params: Mapping[str, object] | None = None,
        profile: Mapping[str, object] | None = None,
        current: str | None = None,
        candidates: Iterable[str] | None = None,
        diversity: float = 0.0,
        explore: float = 0.0,
        seed: int | None = None,
        temperature: float = 0.0,
        boosts: Iterable[Rule] = (),
        discounts: Mapping[str, float] | None = None,
    ) -> RankedList:
        """Return the k items most likely to come next, best first; a list whose `notes` tell why it is short.

        Args:
            state: of the user.
            k: how many; fewer come back where the catalogue has no more.
            at: the time of the request, in seconds since 1970, a datetime or its ISO text; None when unknown.
            type: of the next event, such as "buy" to recommend what will be bought; None for any.
            context: of the request, such as `{"device": "tv"}`; missing is unknown.
            exclude: ids to leave out; unknown ones are ignored.
            repeats: "allow" or "exclude" seen items; None takes the choice of the training.
            where: a filter, such as `'genre = "Comedy" and price < $most'` or `F.genre == "Comedy"`.
            params, profile, current: what the filter calls `$name`, `user.name` and `current.name` (the attributes of
                the item of this id).
            candidates: ids of which alone the list is made.
            diversity: 0 ranks by score alone, up to 1 the more unlike the items of a list are.
            explore, seed: the share of places given to chance, and the seed of that chance.
            temperature: 0 takes the best; above, each place is drawn from the best 11 k + 20 items that are left, an
                item with the chance `exp(score / temperature)`. The list's `probabilities` say how likely each was.
            boosts: rules of the kind boost, for this list.
            discounts: by item, what is taken off its score, such as for items that the user was shown in vain.

        Raises:
            ArgumentError: k is below 1, the state is of another model, the model reads no types or not this column of
                the context, a filter does not fit the columns of the items, or temperature comes with explore or
                diversity.

        Cost: O(items x width), the same for every history.
        """
        check_count(k, "recommend: expected k")
        self._check(state)
        self.encoders.check_request(type, context)
        check_shares(diversity=diversity, explore=explore)
        check_temperature(temperature)
        ids = None if candidates is None else tuple(ids_of(candidates, "candidates"))
        now, left_out = microseconds(at, "at"), tuple(ids_of(exclude, "exclude"))
        options = ListOptions(
            k, now, type, context or {}, left_out, repeats, where, diversity, explore, seed,
            candidates=ids, current=current, params=params or {}, profile=profile or {}, temperature=temperature,
            boosts=tuple(boosts), discounts=discounts or {},
        )  # fmt: skip
        return list_of(self, state, options)

    def predict_rating(self, state: State, item: str, *, at: Time = None, shared: Shared | None = None) -> float:
        """Return the predicted rating of a user for an item, in the scale of the log.

        Args:
            state: of the user, before the rating.
            item: its id. An unknown item gets the rating that this user gives on average.
            at: the time of the request; None when unknown.
            shared: how the biases moved since the training; None takes the biases of the model.

        Raises:
            ArgumentError: the model was trained without ratings, or the state is of another model.

        Cost: O(width squared), whatever the history and the catalogue.
        """
        return self.rating_distribution(state, item, at=at, shared=shared).mean

    def rating_distribution(
        self, state: State, item: str, *, at: Time = None, shared: Shared | None = None
    ) -> RatingDistribution:
        """Return what `predict_rating` does, with its standard deviation and the share of each step of the scale."""
        head, latent, spread = head_of(self), *self._rating(state, item, at, shared)
        ratings = head.distribution(self.params.rating, latent, spread)
        shares = ratings.shares[0].tolist() if head.scale.has_steps else ()
        steps = dict(zip(head.scale.levels, shares, strict=False))
        return RatingDistribution(float(ratings.mean[0]), float(ratings.deviation[0]), steps)

    def rated(self, state: State, item: str, rating: float, *, at: Time = None) -> Rated:
        """Return a rating as `observe_shared` takes it: its distance from the prediction of the frozen model.

        It depends on the user's own events and the model alone, so a replay before an erasure finds the same.

        Args:
            state: of the user, before the rating.
            at: the time of the rating.

        Raises:
            ArgumentError: the rating lies outside the scale, or is no number.
        """
        head_of(self).scale.check(rating, item, needed=True)
        latent, _ = self._rating(state, item, at, None)
        return Rated(self.vocabulary.row(item), float(residuals_of(head_of(self), [rating], latent)[0]))

    def check_rating(self, item: str, rating: float | None) -> None:
        """Do nothing if a rating is None or lies in the scale, or if the model learnt no ratings.

        Raises:
            ArgumentError: the rating lies outside the scale, or is no number.
        """
        if self.network.rating is not None:
            self.network.rating.scale.check(rating, item)

    def shared(self) -> Shared:
        """Return the shared value of all users right after the training: no bias has moved."""
        head_of(self)
        return Shared({})

    def observe_shared(self, shared: Shared, event: Rated) -> Shared:
        """Return the shared value after one more rating of any user; see `rated`. Cost: O(items rated), a copy."""
        return shared.moved(event, 1)

    def forget_shared(self, shared: Shared, event: Rated) -> Shared:
        """Return the shared value as if a rating had never been added, to the last bit."""
        return shared.moved(event, -1)

    def _rating(self, state: State, item: str, at: Time, shared: Shared | None) -> tuple[Floats, Floats]:
        self._check(state)
        rows = np.array([self.vocabulary.row(item)], np.int32)
        gap = gap_seconds(microseconds(at, "at"), state.time)
        return rate(self, state.memory.output, gap, rows, shared_bias(self, shared, rows))

    def plan(self, state: State, n: int = 5, **options: Any) -> Plan:
        """Return the next n items as an ordered path; see `segue.recommend.plan.plan` for the options."""
        return plan(self, state, n, **options)

    def similar(
        self,
        item: str,
        k: int = 10,
        *,
        mix: float = 0.5,
        where: Where = None,
        state: State | None = None,
        at: Time = None,
    ) -> RankedList:
        """Return the k items most like an item, by what users do with them, their vectors and their attributes.

        Args:
            item: its id.
            k: how many.
            mix: 0 ranks by what users do (how often the items come near each other, popularity taken out), 1 by
                what the items are (categories and words of the title that they share), a number between by both. The
                cosine of the vectors, which learn from both, always counts.
            where: a filter, as of `recommend`; `current` is the item.
            state: of a user; the most similar items, 5 k + 20 of them, are ranked as `recommend` ranks them.
            at: the time of the request; None when unknown.

        Returns:
            Items with a score up to 1 (the nearest in all respects), with a state that of `recommend`; see `labels` for
            their attributes.

        Raises:
            ArgumentError: the item is unknown, k is below 1, mix is not from 0 to 1, or the filter does not fit.

        Cost: O(items x width), with an index a search; O(pairs and items) at the first call.
        """
        now = microseconds(at, "at")
        if state is None:
            return similar(self, item, k, mix, where=where, at=now)
        check_count(k, "similar: expected k")
        pool = similar(self, item, pool_for_user(k), mix, where=where, at=now)
        found = self.recommend(state, k, at=at, candidates=[line.item for line in pool])
        return RankedList(found, (*pool.notes, *found.notes))

    def explain(
        self,
        history: Events | Iterable[str | Happened],
        item: str | None = None,
        *,
        last: int = 20,
        at: Time = None,
        type: str | None = None,
        context: Mapping[str, object] | None = None,
        profile: Mapping[str, object] | None = None,
    ) -> Explanation[Happened]:
        """Return what each of the last events of a user did for the score of an item, the strongest first.

        Args:
            history: a log of the user alone, or ids and events, oldest first.
            item: its id; None explains the first of the user's list.
            last: how many events are looked at.
            at, type, context: of the request, as of `recommend`.
            profile: of the user, as of `start`.

        Returns:
            `item` with its score, `labels` (its attributes), and `parts`: an event, the score less the score had the
            event not been, and the attributes that both items share.

        Raises:
            NotFoundError: the item is unknown, or no item is left to explain.
            ArgumentError: the log has several users, nothing is known of the item, or `last` is below 1.

        Cost: O(events), and `last` steps of up to `last` users side by side.
        """
        check_count(last, "explain: expected last")
        self.encoders.check_request(type, context)
        options = ListOptions(1, microseconds(at, "at"), type, context or {})
        return explain_history(self, self.start(profile), past_events(history), item, last, options)

    def title(self, item: str) -> str | None:
        """Return the title of an item; None where none is known."""
        row = self.vocabulary.row(item)
        return self.catalogue.title(row) if row and self.catalogue else None

    def labels(self, item: str) -> list[str]:
        """Return the attributes of an item in words, such as "genres Action"; an empty list where none is known."""
        return labels_of(self, self.vocabulary.row(item))

    def add_items(self, table: object) -> "Recommender":
        """Return a recommender that also knows the items of a table, by their attributes; no training is needed.

        Known items stay as they are, and states of this recommender are valid for the new one. An item without any
        attribute is never in a list (`unreachable`), for there is nothing to rank it by.

        Args:
            table: a path or table of items with the columns of the catalogue of the training.

        Raises:
            ColumnError: the table has no column of ids, or an id stands twice.
            ArgumentError: this model was trained without attributes of items, or a value is of another kind than
                its column.

        Cost: O(all items x width): the table of vectors is copied.
        """
        more = with_items(without_trends(self), table)
        return more if self.live is None else with_trends(more, self.live.trends)

    def sequences(self, events: Events, profiles: Profiles | None = None) -> Sequences:
        """Return a log as this model reads it: rows of items, and numbers of the learnt columns."""
        return encode_log(events, self.vocabulary, self.encoders, profiles)

    def encode(self, events: Events | Sequences, users: object = None) -> States:
        """Return the states of all users of a log, equal to observing their events one by one.

        Args:
            events: the log.
            users: a path or table with their profiles; None leaves these unknown.

        Raises:
            DataError: a rating lies outside the learnt scale.

        Cost: O(events). Memory: O(users x state).
        """
        log = None if isinstance(events, Sequences) else as_events(events, "encode")
        if self.network.rating is not None and log is not None:
            self.network.rating.scale.check_log(log)
        sequences = events if isinstance(events, Sequences) else self.sequences(events, profiles_of(self.facts, users))
        memory, _ = encode_users(self.network, self.params, sequences)
        offsets, size = sequences.offsets, self.vocabulary.learnt_size
        pieces = itertools.pairwise(offsets)
        seen = tuple(Seen.of(size, sequences.items[a:b]) for a, b in pieces)
        times = np.full(len(sequences), NO_TIME)
        if sequences.times is not None:
            active = sequences.lengths > 0
            times[active] = sequences.times[offsets[1:][active] - 1]
        recent = sequences.recent_before(offsets[1:], offsets[:-1], RECENT)
        unknown = {}
        if log is not None and (sequences.items == 0).any():
            unknown = unknown_keys(log.table["item"].gather(sequence_order(log)), sequences)
        return States(sequences.users, memory, times, sequences.lengths, seen, self.fingerprint, recent, unknown)

    def score(self, states: State | States, *, at: Time = None) -> Floats:
        """Return float32[user, item], unnormalised log-probabilities in the order of `rec.items`; nothing is left out.

        Args:
            states: one or many.
            at: the time of the request; None when unknown.
        """
        self._check(states)
        now = microseconds(at, "at")
        if isinstance(states, State):
            gaps = gap_seconds(now, states.time)
        else:
            times = [None if time == NO_TIME else int(time) for time in states.times]
            gaps = gaps_seconds([now] * len(times), times)
        scores = self.score_outputs(states.memory.output, gaps, states.recent, self.details(now))
        return scores[:, 1 : len(self.items) + 1]

    def with_trends(self, trends: Trends | None) -> "Recommender":
        """Return a recommender whose lists follow what everybody does, by the ranker of this model.

        A list follows the trends from then on: every event that they count moves the next list, of
        known items and of items that the training never met. States are the same with and without
        trends.

        Args:
            trends: changed in place by whoever counts; None for lists that only the user's own
                events move.

        Raises:
            ArgumentError: the model has no ranker: the training found that its log does not drift.

        Cost: O(items x width) once, for rows in which unknown items are ranked.

        Example:
            >>> rec.ranker is None or rec.with_trends(rec.trends())  # doctest: +SKIP
        """
        return with_trends(self, trends)

    def trends(self) -> Trends:
        """Return trends without an event, with the half-lives of this model's ranker.

        Raises:
            ArgumentError: the model has no ranker.
        """
        return Trends(int(ranker_of(self).shortest))

    def with_index(self, index: Index | None) -> "Recommender":
        """Return a recommender whose lists come from an index; None scores all items for each list."""
        found = replace(without_trends(self), index=index)
        return found if self.live is None else with_trends(found, self.live.trends)

    def save(self, path: str | Path) -> None:
        """Write a model; see `segue.model_file.save_model`."""
        save_model(without_trends(self), path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a recommender is pickled and copied in depth: by its fields, without cached values."""
        frozen = without_trends(self)  # trends are of this process
        parts: dict[str, Any] = {part.name: getattr(frozen, part.name) for part in fields(frozen)}
        if frozen.catalogue is not None:
            parts["catalogue"] = Catalogue(frozen.catalogue.table, frozen.catalogue.notes)
        return type(self), tuple(
            replace(part) if hasattr(part, "__dataclass_fields__") else part for part in parts.values()
        )

    def __copy__(self) -> "Recommender":
        """Return a shallow copy; cached values are shared."""
        copied = replace(self)
        vars(copied).update(vars(self), fused=self.fused)
        return copied

    def outputs_before(self, sequences: Sequences, wanted: Bools) -> Floats:
        """Return float32[n, d]: the output of the state just before each wanted event (evaluation)."""
        return encode_users(self.network, self.params, sequences, wanted)[1]

    def _profile(self, profile: Mapping[str, object]) -> Floats | None:
        encoding = self.encoders.users
        known = {} if encoding is None else {plain_name(name): name for name in encoding.slices}
        for name in profile:
            if plain_name(name) not in known:
                raise ArgumentError(
                    f'profile: expected columns among {", ".join(known) or "none"}, came "{name}". '
                    "Leave it out, or train with a table of users that has it."
                )
        if encoding is None:
            return None
        named = {known[plain_name(name)]: value for name, value in profile.items()}
        encoding.check(named, "profile")
        return encoding.encode_row(named)[None]


def load_model(path: str | Path) -> Recommender:
    """Return the recommender of a model file; see `segue.model_file.read_model`."""
    return Recommender.of(read_model(path))
