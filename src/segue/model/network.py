"""The whole network: events in, a query vector for the catalogue out.

The item table is tied: it is read at the input and scored at the output. One definition runs under
JAX in training and NumPy in serving.

A user with events e_1 ... e_n has n positions in training: the first reads `start` and predicts
e_1, the next reads e_1 and predicts e_2, and so on. So lists for users without events are trained
like all others, and every position has a target.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from segue.config import Norm
from segue.data.log.rating_scale import RATING_WIDTH
from segue.model.backend import draw_normal, draw_rows, namespace, product, take, where_tree
from segue.model.blocks import BlockMasks, BlockParams, dropped, init_block, normed, scan_block, step_block
from segue.model.cells import Cell
from segue.model.heads import ItemSide, RatingHead
from segue.model.time_encoding import Clock
from segue.shapes import Array, Tree


class ClockParams(NamedTuple):
    """Tables that a `Clock` reads."""

    event: Array  # [K + 1, d], added to the input
    scale: Array  # [K + 1, d], 1 + this multiplies the output at the time of the request
    shift: Array  # [K + 1, d], added to it


class AttributeParams(NamedTuple):
    """The weights of item attributes."""

    vector: Array  # [m, d], added to the row of an item's id
    bias: Array  # [m], added to the bias of an item's id


class DetailParams(NamedTuple):
    """The weights of event features (type, rating, context), called details in batches."""

    event: Array  # [m, d], added to the input
    shift: Array  # [n, d], added to the output: the first n features are known when a list is requested


class NetworkParams(NamedTuple):
    """All weights; an empty tuple stands for parts that a network does not have."""

    items: Array  # [V, d]
    bias: Array  # [V]
    start: Array  # [d]
    clock: Any  # ClockParams, or () without a clock
    blocks: tuple[BlockParams, ...]
    norm: Array  # [d]
    attributes: Any = ()  # AttributeParams
    details: Any = ()  # DetailParams
    profile: Any = ()  # [p, d], added to `start`
    rating: Any = ()  # RatingParams


class Memory(NamedTuple):
    """What the network carries for each user: the state of every cell and the last output.

    With a rating head the rating state stands behind the output; heads read both.
    """

    cells: tuple[Tree, ...]
    output: Array  # [B, d], or [B, d + rating state]


class Window(NamedTuple):
    """T positions of B users side by side, time-major."""

    items: Array  # int32[T, B]: the item read; not used where `first`
    gaps: Array  # float32[T, B]: seconds between the item read and the one before; NaN unknown
    first: Array  # bool[T, B]: a user's first position, which reads `start`
    reset: Array  # bool[T, B]: the memory is emptied before this position
    details: Any = None  # float32[T, B, m]: features of the event read, 0 where unknown; None without any
    profiles: Any = None  # float32[T, B, p]: of the user, read where `first`


class Masks(NamedTuple):
    """Dropout masks as data."""

    embedding: Array  # [T, B, d]
    blocks: tuple[BlockMasks, ...]
    output: Array  # [T, B, d]
    taste: Any = None  # [T, B, d], of the rating state


@dataclass(frozen=True)
class Network:
    """Static settings; the weights stand beside it in `NetworkParams`.

    Args:
        cell: the recurrence of every block.
        items: rows of the item table, *unknown* included.
        width: d.
        depth: the number of blocks.
        expand: feed-forward width as a multiple of d.
        clock: None for a network without times.
        attributes: numbers of an item's attributes; 0 for ids alone.
        details: numbers of an event's features.
        asked: how many of these, the first, are known when a list is requested.
        timed: which of these, from and to before, are hour and day.
        profile: numbers of a user's profile.
        session: seconds without an event after which the memory of the first block is emptied, so
            that this block follows the session and the others the user; None never empties it.
        rating: the head that predicts ratings; an event's rating then stands behind its features.
        norm: what each part of a block, and the output, does with a vector first, see
            `segue.config.Norm`.
    """

    cell: Cell
    items: int
    width: int
    depth: int
    expand: int = 2
    clock: Clock | None = None
    attributes: int = 0
    details: int = 0
    asked: int = 0
    timed: tuple[int, int] = (0, 0)
    profile: int = 0
    session: float | None = None
    rating: RatingHead | None = None
    norm: Norm = True

    @property
    def read_width(self) -> int:
        """Numbers of an output that heads read: d, and those of the rating state."""
        return self.width + (self.rating.state_width if self.rating else 0)

    def init(self, seed: int, first: int = 0, step: int = 1) -> NetworkParams:
        """Return fresh float32 weights as NumPy arrays; the same seed gives the same weights.

        The item table holds the rows `first::step` alone, and no more of them need memory.
        """
        rng, d = np.random.default_rng(seed), self.width
        clock: Any = ()
        if self.clock:
            clock = ClockParams(*(np.zeros((self.clock.rows, d), np.float32) for _ in range(3)))

        def small(*shape: int) -> Array:
            return draw_normal(np.random.default_rng([seed, *shape]), shape, 0.02)

        attributes: Any = AttributeParams(small(self.attributes, d), small(self.attributes)) if self.attributes else ()
        zeros = np.zeros((self.asked, d), np.float32)
        details: Any = DetailParams(small(self.details, d), zeros) if self.details else ()
        return NetworkParams(
            items=draw_rows(rng, (self.items, d), 0.02, first, step),
            bias=np.zeros(-(-self.items // step), np.float32),
            start=draw_normal(rng, (d,), 0.02 * d**0.5),
            clock=clock,
            blocks=tuple(
                init_block(rng, self.cell, width=d, expand=self.expand, depth=self.depth) for _ in range(self.depth)
            ),
            norm=np.ones(d, np.float32),
            attributes=attributes,
            details=details,
            profile=small(self.profile, d) if self.profile else (),
            rating=self.rating.init(seed, self.items) if self.rating else (),
        )

    def empty(self, params: NetworkParams, batch: int) -> Memory:
        """Return the memory of users who have read nothing, not even `start`."""
        cells = tuple(self.cell.start(block.cell, batch) for block in params.blocks)
        xp = namespace(params.items)
        return Memory(cells, xp.zeros((batch, self.read_width), dtype=np.float32))

    def with_attributes(self, params: NetworkParams, attributes: Array, known: Array | None = None) -> NetworkParams:
        """Return the weights with item vectors that add the attributes to the row of the id.

        The network then needs the attributes no more.

        Args:
            params: whose `items` hold the rows of ids.
            attributes: float32[V, m].
            known: float32[V], 0 where the row of the id is left out, as if the item were new.
        """
        vectors, bias = params.items, params.bias
        if known is not None:
            vectors, bias = vectors * known[:, None], bias * known
        vectors = vectors + product(attributes, params.attributes.vector)
        return params._replace(items=vectors, bias=bias + attributes @ params.attributes.bias)

    def embed(self, params: NetworkParams, items: Array, gaps: Array, details: Array | None = None) -> Array:
        """Return the input vector of each event, [..., d]."""
        x = take(params.items, items) * self.width**0.5
        if self.clock:
            x = x + product(self.clock.weights(gaps), params.clock.event)
        if self.details and details is not None:
            if head := self.rating:
                details = details[..., :-RATING_WIDTH] if head.apart else head.residuals(params.rating, items, details)
            x = x + product(details, params.details.event) * self.width**0.5
        return x

    def first_input(self, params: NetworkParams, profiles: Array | None) -> Array:
        """Return the input vector of a user's first position, [..., d] or [d]."""
        if not self.profile or profiles is None:
            return params.start
        return params.start + product(profiles, params.profile) * self.width**0.5

    def _resets(self, block: int, reset: Array, gaps: Array) -> Array:
        """Return where a block's memory is emptied, bool of the shape of `reset`."""
        if self.session is None or block > 0:
            return reset
        return reset | (gaps > self.session)  # an unknown gap is no new session

    def scan(
        self,
        params: NetworkParams,
        memory: Memory,
        window: Window,
        masks: Masks | None = None,
        chosen: Array | None = None,
    ) -> tuple[Memory, Array]:
        """Read T positions of B users.

        Args:
            params, memory, window: weights, what was read before, what is read.
            masks: of dropout, or None.
            chosen: bool[T, B], the positions whose output is wanted, of NumPy and without masks; None wants all.

        Returns:
            The memory after the last position, and the output of every position, [T, B, d]; without the rating state
            it is zeros where not chosen, the memory's output included.
        """
        x = dropped(self.inputs(params, window), masks and masks.embedding)
        return self.scan_inputs(params, memory, x, window, masks, chosen)

    def inputs(self, params: NetworkParams, window: Window) -> Array:
        """Return the input vector of each position, [T, B, d]."""
        x = self.embed(params, window.items, window.gaps, window.details)
        first = self.first_input(params, window.profiles)
        return namespace(x).where(window.first[..., None], first, x)

    def scan_inputs(
        self,
        params: NetworkParams,
        memory: Memory,
        x: Array,
        window: Window,
        masks: Masks | None = None,
        chosen: Array | None = None,
    ) -> tuple[Memory, Array]:
        """Do what `scan` does from input vectors [T, B, d]; the window gives gaps and resets."""
        cells = []
        for i, (block, state) in enumerate(zip(params.blocks, memory.cells, strict=True)):
            reset = self._resets(i, window.reset, window.gaps)
            these = chosen if i == self.depth - 1 else None
            state, x = scan_block(self.cell, block, state, x, reset, masks and masks.blocks[i], self.norm, these)
            cells.append(state)
        output = normed(x, params.norm, self.norm)
        if chosen is not None:
            some, output = output, np.zeros((*chosen.shape, self.width), np.float32)
            output[chosen] = some
        read = dropped(output, masks and masks.output)
        if self.rating:
            xp = namespace(x)
            before, entries = memory.output[:, self.width :], self._entries(params, window.items, window.details)
            entries = xp.where(window.first[..., None], xp.zeros_like(entries), entries)
            state = self.rating.scan(before, entries, window.reset)
            output, read = xp.concat([output, state], axis=-1), xp.concat([read, state], axis=-1)
        return Memory(tuple(cells), output[-1]), read

    def _entries(self, params: NetworkParams, items: Array, details: Array | None) -> Array:
        """Return what events add to the rating state; without features the sums only decay."""
        assert self.rating is not None
        vectors = take(params.items, items)
        if details is None:
            return namespace(vectors).zeros((*items.shape, self.rating.state_width), dtype=vectors.dtype)
        noted = self.rating.residuals(params.rating, items, details[..., -RATING_WIDTH:])
        return self.rating.entries(noted[..., -2], noted[..., -1], vectors)

    def start(self, params: NetworkParams, batch: int = 1, profiles: Array | None = None) -> Memory:
        """Return the memory of users without events; a list can be made from it at once.

        Args:
            batch: B.
            profiles: float32[B, p], 0 where unknown.
        """
        xp = namespace(params.items)
        x = xp.broadcast_to(self.first_input(params, profiles), (batch, self.width))
        return self._step(params, self.empty(params, batch), x, xp.zeros((batch,), dtype=bool))

    def step(
        self, params: NetworkParams, memory: Memory, items: Array, gaps: Array, details: Array | None = None
    ) -> Memory:
        """Read one event of each of B users. Cost: constant for any length of history.

        Args:
            items: int32[B], rows of the item table, 0 for an unknown item.
            gaps: float32[B], seconds since the user's event before; NaN unknown.
            details: float32[B, m], features of the events, 0 where unknown.
        """
        none = namespace(params.items).zeros(gaps.shape, dtype=bool)
        after = self._step(params, memory, self.embed(params, items, gaps, details), self._resets(0, none, gaps))
        if not self.rating:
            return after
        state = self.rating.step(memory.output[:, self.width :], self._entries(params, items, details))
        return after._replace(output=namespace(state).concat([after.output[:, : self.width], state], axis=-1))

    def _step(self, params: NetworkParams, memory: Memory, x: Array, session_begins: Array) -> Memory:
        cells = []
        for i, (block, state) in enumerate(zip(params.blocks, memory.cells, strict=True)):
            if i == 0 and self.session is not None:
                state = where_tree(session_begins, self.cell.start(block.cell, x.shape[0]), state)
            state, x = step_block(self.cell, block, state, x, self.norm)
            cells.append(state)
        output = normed(x, params.norm, self.norm)
        if self.rating:
            xp = namespace(output)
            output = xp.concat([output, xp.zeros_like(memory.output[:, self.width :])], axis=-1)
        return Memory(tuple(cells), output)

    def query(self, params: NetworkParams, output: Array, gaps: Array, details: Array | None = None) -> Array:
        """Return the query vector, [..., d]: the output, moved by the time since the last event.

        Args:
            output: [..., d], of `Memory.output` or `scan`; the rating state behind it is not read.
            gaps: float32[...], seconds from the last event to the request; NaN unknown.
            details: float32[..., m], of which the first `asked` are read: known features of the
                event to come.
        """
        if self.rating:
            output = output[..., : self.width]
        if self.clock:
            weights = self.clock.weights(gaps)
            output = output * (1.0 + product(weights, params.clock.scale)) + product(weights, params.clock.shift)
        if self.asked and details is not None:
            output = output + product(details[..., : self.asked], params.details.shift)
        return output

    def rate(
        self, params: NetworkParams, read: Array, gaps: Array, item: ItemSide, taste_mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the latent value and the spread of a rating to come, [...] each; see `RatingHead`.

        Args:
            read: [..., read_width], of `Memory.output` or `scan`.
            gaps: float32[...], seconds from the last event to the request; NaN unknown.
        """
        assert self.rating is not None
        head, weights, state = self.rating, params.rating, read[..., self.width :]
        output = self.query(params, read, gaps)
        taste = dropped(head.taste(weights, state), taste_mask)
        latent = head.latent(weights, output, head.bias(weights, state), taste, item)
        return latent, head.spread(weights, output)

    def scores(self, params: NetworkParams, query: Array, rows: Array | None = None) -> Array:
        """Return the score of every row of the catalogue, [..., V]; row 0 is scored too.

        Args:
            query: [..., d].
            rows: int32[n], the rows to score for every query, or int32[..., n], those of each; None
                scores all.
        """
        if rows is None:
            scores = query @ params.items.T
            scores += params.bias  # under NumPy in place
            return scores
        items, bias = params.items[rows], params.bias[rows]
        if rows.ndim == 1:
            return query @ items.T + bias
        return namespace(items).matmul(items, query[..., None])[..., 0] + bias
