"""Recurrent cells behind one contract.

A cell is a frozen dataclass of static settings with

    init(rng, width)                           -> params, a NamedTuple of float32 arrays
    start(params, batch)                       -> state, a tree of [B, ...] arrays
    lift(params, x)                            -> inputs: all that needs no recurrence, [T, B, ...]
    step(params, state, inputs)                -> (state, y), one position, [B, ...]
    scan(params, state, inputs, reset, start)  -> (state, y), `y` [T, B, width]
    gates(params, state, inputs)               -> what a step opens, each [B, width] from 0 to 1; () without

Where `reset[t, b]` is true the state becomes `start` before position t is read. The law, tested for
every cell under both libraries: a scan equals the steps, one after the other.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from segue.errors import ConfigError
from segue.model import activations
from segue.model.activations import sigmoid, softplus
from segue.model.backend import compiled_loops, draw_normal, namespace, parts, product, scan, where_tree
from segue.shapes import Array, Tree


class Cell(Protocol):
    """The contract of a recurrence; see the top of this module."""

    def init(self, rng: np.random.Generator, width: int) -> Any:
        """Return fresh parameters."""

    def start(self, params: Any, batch: int) -> Tree:
        """Return the state of users without events."""

    def lift(self, params: Any, x: Array) -> Tree:
        """Return the part of inputs `x` [T, B, width] that is computed for all steps at once."""

    def step(self, params: Any, state: Tree, inputs: Tree) -> tuple[Tree, Array]:
        """Read one position."""

    def scan(self, params: Any, state: Tree, inputs: Tree, reset: Array, start: Tree) -> tuple[Tree, Array]:
        """Read T positions; where `reset` is true, begin from `start`."""

    def gates(self, params: Any, state: Tree, inputs: Tree) -> Tree:
        """Return how far each gate is open in the step that reads `inputs`."""


class StepwiseCell:
    """A cell whose scan repeats its step; without gates unless it defines them."""

    def gates(self, params: Any, state: Tree, inputs: Tree) -> Tree:
        """Return how far each gate is open in the step that reads `inputs`: a named tuple."""
        return ()

    def scan(self, params: Any, state: Tree, inputs: Tree, reset: Array, start: Tree) -> tuple[Tree, Array]:
        """Read T positions; where `reset` is true, begin from `start`."""

        def read_position(state: Tree, position: Tree) -> tuple[Tree, Array]:
            reset_now, inputs_now = position
            return self.step(params, where_tree(reset_now, start, state), inputs_now)

        return scan(read_position, state, (reset, inputs))

    def step(self, params: Any, state: Tree, inputs: Tree) -> tuple[Tree, Array]:
        """Read one position."""
        raise NotImplementedError


class GatedParams(NamedTuple):
    """The weights of a classical cell with `gates` products of width d."""

    w_x: Array  # [d, gates d]
    w_h: Array  # [d, gates d]
    b: Array  # [gates d]


def init_gated(rng: np.random.Generator, width: int, gates: int) -> GatedParams:
    """Draw input weights by fan-in and recurrent weights orthogonal, a matrix per gate."""
    recurrent = [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(gates)]
    return GatedParams(
        w_x=draw_normal(rng, (width, gates * width), width**-0.5),
        w_h=np.concatenate(recurrent, axis=1).astype(np.float32),
        b=np.zeros(gates * width, np.float32),
    )


def zeros_of(weights: Array, batch: int, width: int) -> Array:
    """Return float32 zeros [batch, width] in the library of `weights`."""
    return namespace(weights).zeros((batch, width), dtype=np.float32)


class ClassicalCell(StepwiseCell):
    """What the cells with matrices `w_x` and `w_h` share."""

    def start(self, params: Any, batch: int) -> Tree:
        """Return `h = 0`, [B, d]."""
        return zeros_of(params.w_h, batch, params.w_h.shape[0])

    def lift(self, params: Any, x: Array) -> Array:
        """Return `W x + b` of all gates, [T, B, gates d]."""
        return product(x, params.w_x) + params.b


@dataclass(frozen=True)
class SimpleRNN(ClassicalCell):
    """The plain recurrence (Elman, 1990).

        h_t = f(W_x x_t + W_h h_{t-1} + b),   y_t = h_t,   f one of tanh, relu, leaky_relu

    Cost of a step: 4 d^2 operations for each user, half of them lifted out of the recurrence.
    """

    activation: str = "tanh"

    def init(self, rng: np.random.Generator, width: int) -> GatedParams:
        """Return fresh parameters."""
        return init_gated(rng, width, 1)

    def step(self, params: GatedParams, state: Array, inputs: Array) -> tuple[Array, Array]:
        """Return `(h_t, h_t)`."""
        h = activations.ACTIVATIONS[self.activation](inputs + product(state, params.w_h))
        return h, h


class GRUParams(NamedTuple):
    """The weights of a GRU; gates in the order z, r, n."""

    w_x: Array  # [d, 3 d]
    w_h: Array  # [d, 3 d]
    b: Array  # [3 d]
    b_n: Array  # [d], inside the reset gate


class GRUGates(NamedTuple):
    """How far a GRU keeps its memory, and how much of the memory the candidate reads."""

    keep: Array  # [B, d], z
    reset: Array  # [B, d], r


@dataclass(frozen=True)
class GRU(ClassicalCell):
    """The gated recurrent unit, its reset gate after the product (Cho et al., 2014; cuDNN's form).

        z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)
        r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)
        n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))
        h_t = (1 - z_t) n_t + z_t h_{t-1},   y_t = h_t

    Cost of a step: 12 d^2 operations for each user, half of them lifted out of the recurrence.
    """

    def init(self, rng: np.random.Generator, width: int) -> GRUParams:
        """Return fresh parameters."""
        gated = init_gated(rng, width, 3)
        return GRUParams(*gated, b_n=np.zeros(width, np.float32))

    def step(self, params: GRUParams, state: Array, inputs: Array) -> tuple[Array, Array]:
        """Return `(h_t, h_t)`."""
        (z, r), x_n, h_n = self.opened(params, state, inputs)
        n = activations.tanh(x_n + r * (h_n + params.b_n))
        h = n + z * (state - n)
        return h, h

    def scan(self, params: GRUParams, state: Array, inputs: Array, reset: Array, start: Array) -> tuple[Array, Array]:
        """Read T positions; where `reset` is true, begin from `start`."""
        loops = compiled_loops(inputs)
        if not loops:
            return super().scan(params, state, inputs, reset, start)
        y = loops.gru(inputs, params.w_h, params.b_n, state, reset, start)
        return y[-1], y

    def gates(self, params: GRUParams, state: Array, inputs: Array) -> GRUGates:
        """Return how far each gate is open in the step that reads `inputs`."""
        return self.opened(params, state, inputs)[0]

    def opened(self, params: GRUParams, state: Array, inputs: Array) -> tuple[GRUGates, Array, Array]:
        """Return the gates, and the candidate's parts from the input and from the memory."""
        x_z, x_r, x_n = parts(inputs, 3)
        h_z, h_r, h_n = parts(product(state, params.w_h), 3)
        return GRUGates(keep=sigmoid(x_z + h_z), reset=sigmoid(x_r + h_r)), x_n, h_n


class LSTMState(NamedTuple):
    """What an LSTM carries: its output and its cell."""

    h: Array  # [B, d]
    c: Array  # [B, d]


class LSTMGates(NamedTuple):
    """How far an LSTM keeps its cell, adds the candidate, and shows the cell."""

    keep: Array  # [B, d], f
    enter: Array  # [B, d], i
    show: Array  # [B, d], o


@dataclass(frozen=True)
class LSTM(ClassicalCell):
    """Long short-term memory with a forget gate (Hochreiter and Schmidhuber, 1997; Gers et al., 2000).

        i, f, o = sigmoid(W x_t + U h_{t-1} + b),   g = tanh(W_g x_t + U_g h_{t-1} + b_g)
        c_t = f c_{t-1} + i g,   h_t = o tanh(c_t),   y_t = h_t

    Gates in the order i, f, g, o. The forget bias starts at 1, so that memory is the default.
    Cost of a step: 16 d^2 operations for each user, half of them lifted out of the recurrence.
    """

    def init(self, rng: np.random.Generator, width: int) -> GatedParams:
        """Return fresh parameters."""
        params = init_gated(rng, width, 4)
        params.b[width : 2 * width] = 1.0
        return params

    def start(self, params: GatedParams, batch: int) -> LSTMState:
        """Return `h = c = 0`, [B, d] each."""
        zeros = zeros_of(params.w_h, batch, params.w_h.shape[0])
        return LSTMState(zeros, zeros)

    def step(self, params: GatedParams, state: LSTMState, inputs: Array) -> tuple[LSTMState, Array]:
        """Return `((h_t, c_t), h_t)`."""
        (f, i, o), g = self.opened(params, state, inputs)
        c = f * state.c + i * activations.tanh(g)
        h = o * activations.tanh(c)
        return LSTMState(h, c), h

    def gates(self, params: GatedParams, state: LSTMState, inputs: Array) -> LSTMGates:
        """Return how far each gate is open in the step that reads `inputs`."""
        return self.opened(params, state, inputs)[0]

    def opened(self, params: GatedParams, state: LSTMState, inputs: Array) -> tuple[LSTMGates, Array]:
        """Return the gates, and the candidate before its tanh."""
        i, f, g, o = parts(inputs + product(state.h, params.w_h), 4)
        return LSTMGates(keep=sigmoid(f), enter=sigmoid(i), show=sigmoid(o)), g


class LinearParams(NamedTuple):
    """The weights of the gated linear recurrence."""

    conv: Array  # [taps, d], the present first
    conv_bias: Array  # [d]
    w_gates: Array  # [d, 2 d], recurrence gate then input gate
    b_gates: Array  # [2 d]
    decay: Array  # [d], lambda


class LinearState(NamedTuple):
    """What the linear recurrence carries: the last inputs (newest first) and the memory."""

    tail: tuple[Array, ...]  # taps - 1 arrays [B, d]
    s: Array  # [B, d]


class LinearGates(NamedTuple):
    """How far the linear recurrence keeps its memory, and lets the input in."""

    keep: Array  # [B, d], a
    enter: Array  # [B, d], i


@dataclass(frozen=True)
class Linear:
    """A gated diagonal linear recurrence after a short causal convolution (De et al., 2024: RG-LRU).

        c_t = sum_k conv_k x_{t-k} + b                       k = 0 ... taps-1, within one user
        r_t, i_t = sigmoid(W c_t + b)
        a_t = exp(-8 softplus(lambda) r_t)
        s_t = a_t s_{t-1} + sqrt(1 - a_t^2) i_t c_t,   y_t = s_t

    Nothing multiplies the memory by a matrix, so its gradient neither explodes nor has to vanish,
    and every product is lifted out of the loop over time. `lambda` starts so that the longest
    decays keep half-lives from a fraction of a step to hundreds.

    Cost of a step: 4 d^2 operations for each user, and a few reads of [B, d].
    """

    taps: int = 4

    def init(self, rng: np.random.Generator, width: int) -> LinearParams:
        """Return fresh parameters."""
        # a at r = 1 spans .5 to .999: exp(-8 softplus(lambda)) = a.
        longest = np.linspace(0.5, 0.999, width)
        softplus_decay = -np.log(longest) / 8.0
        conv = draw_normal(rng, (self.taps, width), 0.1)
        conv[0] += 1.0
        return LinearParams(
            conv=conv,
            conv_bias=np.zeros(width, np.float32),
            w_gates=draw_normal(rng, (width, 2 * width), width**-0.5),
            b_gates=np.zeros(2 * width, np.float32),
            decay=np.log(np.expm1(softplus_decay)).astype(np.float32),
        )

    def start(self, params: LinearParams, batch: int) -> LinearState:
        """Return an empty tail and `s = 0`."""
        zeros = zeros_of(params.w_gates, batch, params.decay.shape[0])
        return LinearState(tail=(zeros,) * (self.taps - 1), s=zeros)

    def lift(self, params: LinearParams, x: Array) -> Array:
        """Return x: the convolution must not look across a reset, so it is part of the scan."""
        return x

    def convolve(self, params: LinearParams, tail: Tree, x: Array) -> tuple[Tree, Array]:
        """Return the new tail and `c_t` for one position."""
        c = params.conv[0] * x + params.conv_bias
        for k, past in enumerate(tail, start=1):
            c = c + params.conv[k] * past
        return ((x, *tail) if tail else (x,))[: self.taps - 1], c

    def look_back(self, tail: Tree, x: Array, reset: Array, start: Tree) -> list[Array]:
        """Return `x` 1 to `taps - 1` positions back, each [T + 1, B, width], at T positions and after.

        Where a reset lies between, what was before it is read from `start`.
        """
        xp, back, places = namespace(x), self.taps - 1, len(x) + 1
        line = xp.concat([*(past[None] for past in reversed(tail)), x])
        none = xp.zeros_like(reset[:1])
        resets = xp.concat([none] * back + [reset, none])
        past = [line[back - k : back - k + places] for k in range(1, back + 1)]
        unbroken = xp.ones_like(resets[:places])
        for j in range(back):
            here = resets[back - j : back - j + places]
            latest = (unbroken & here)[..., None]
            unbroken = unbroken & ~here
            past = [x if k <= j else xp.where(latest, start[k - j - 1], x) for k, x in enumerate(past, start=1)]
        return past

    def gates(self, params: LinearParams, state: LinearState, inputs: Array) -> LinearGates:
        """Return how far each gate is open in the step that reads `inputs`."""
        return self.opened(params, self.convolve(params, state.tail, inputs)[1])[0]

    def opened(self, params: LinearParams, c: Array) -> tuple[LinearGates, Array]:
        """Return the gates of each position and its gated, scaled input."""
        xp = namespace(c)
        recurrence, entry = parts(sigmoid(product(c, params.w_gates) + params.b_gates), 2)
        log_a = -8.0 * softplus(params.decay) * recurrence
        # 1 - a^2 through expm1: exact where a is near 1, which is where long memory lives.
        scale = xp.sqrt(xp.maximum(-xp.expm1(2.0 * log_a), 1e-12))
        return LinearGates(keep=xp.exp(log_a), enter=entry), scale * entry * c

    def step(self, params: LinearParams, state: LinearState, inputs: Array) -> tuple[LinearState, Array]:
        """Return `((tail, s_t), s_t)`."""
        tail, c = self.convolve(params, state.tail, inputs)
        (a, _), b = self.opened(params, c)
        s = a * state.s + b
        return LinearState(tail, s), s

    def scan(
        self, params: LinearParams, state: LinearState, inputs: Array, reset: Array, start: LinearState
    ) -> tuple[LinearState, Array]:
        """Read T positions; everything but `s = a s + b` is computed for all positions at once."""
        loops = compiled_loops(inputs)
        if loops:
            return self._compiled_scan(loops, params, state, inputs, reset, start)

        def recur(s: Array, position: Tree) -> tuple[Array, Array]:
            reset_now, a, b = position
            s = a * where_tree(reset_now, start.s, s) + b
            return s, s

        past = self.look_back(state.tail, inputs, reset, start.tail)
        c = params.conv[0] * inputs + params.conv_bias
        for k, x in enumerate(past, start=1):
            c = c + params.conv[k] * x[:-1]
        tail = tuple(x[-1] for x in past)
        (a, _), b = self.opened(params, c)
        s, y = scan(recur, state.s, (reset, a, b))
        return LinearState(tail, s), y

    def _compiled_scan(
        self, loops: Any, params: LinearParams, state: LinearState, inputs: Array, reset: Array, start: LinearState
    ) -> tuple[LinearState, Array]:
        """Do what `scan` does with two compiled loops and a product between them."""

        def stacked(tail: tuple[Array, ...]) -> Array:
            xp = namespace(inputs)
            return xp.stack(tail) if tail else xp.zeros((0, *inputs.shape[1:]), dtype=inputs.dtype)

        c, tail = loops.convolve(inputs, stacked(state.tail), reset, stacked(start.tail), params.conv, params.conv_bias)
        decay = 8.0 * softplus(params.decay)
        y = loops.linear(product(c, params.w_gates), params.b_gates, decay, c, state.s, reset, start.s)
        return LinearState(tuple(tail), y[-1]), y


#: What `model.cell` may name.
CELLS: dict[str, type[Any]] = {"linear": Linear, "gru": GRU, "lstm": LSTM, "simple_rnn": SimpleRNN}


def make_cell(name: str, *, activation: str = "tanh") -> Cell:
    """Return the cell of a name in `CELLS`; `activation` is read by `simple_rnn` alone.

    Raises:
        ConfigError: the name stands for a cell made elsewhere.
    """
    if name not in CELLS:
        raise ConfigError(
            f"config model.cell: expected {', '.join(CELLS)}, came {name}, which is no cell by itself. "
            "Give the cell: segue.train(events, cell=segue.interop.KerasCell(...))."
        )
    if name == "simple_rnn":
        return SimpleRNN(activation)
    cell: Cell = CELLS[name]()
    return cell
