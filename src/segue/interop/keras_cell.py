"""A Keras cell behind Segue's contract of cells.

The cell is called with `training=False` through `stateless_call`, so weights and state go in and
come out; Segue's dropout acts around the cell. It is the only cell that computes with JAX in
serving, too.
"""

import inspect
import json
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segue.data.values.plain import json_of
from segue.errors import ArgumentError, ConfigError
from segue.interop.library import keras_on_jax
from segue.interop.weights import params_of, segue_cell
from segue.model.backend import is_jax, map_tree, namespace
from segue.model.cells import Cell, StepwiseCell
from segue.shapes import Array, Tree


@dataclass(frozen=True, init=False)
class KerasCell(StepwiseCell):
    """A Keras cell as a cell of Segue: `train(events, cell=KerasCell(keras.layers.GRUCell(64)))`.

    Any object that `keras.layers.RNN` accepts works: a cell of Keras, or your own with `state_size`
    and `call(inputs, states)`. Register your own class
    (`@keras.saving.register_keras_serializable`): a model file keeps the cell as JSON, and is
    loaded where the same class is registered.

    Args:
        cell: copied by its configuration; neither built nor changed.

    Raises:
        ArgumentError: Keras is missing or does not run on JAX; the cell cannot be described, has
            dropout, no weights or weights that are not trained, or does not compute in float32.

    Cost: a step costs what the cell costs. Nothing is lifted out of the recurrence, so a classical
    cell trains slower than Segue's own; `segue.convert` replaces classical cells by Segue's.

    Example:
        >>> keras = keras_on_jax()
        >>> cell = KerasCell(keras.layers.LSTMCell(4))
        >>> params = cell.init(np.random.default_rng(0), 4)
        >>> state, y = cell.step(params, cell.start(params, 2), np.ones((2, 4), np.float32))
        >>> y.shape, [part.shape for part in state]
        ((2, 4), [(2, 4), (2, 4)])
        >>> KerasCell.from_description(cell.description) == cell
        True
    """

    description: str
    width: int = field(compare=False, repr=False)
    _built: Any = field(compare=False, repr=False)

    def __init__(self, cell: Any) -> None:
        keras = keras_on_jax()  # before anything of the cell is read
        _check_cell(cell)
        description = _described(keras, cell)
        width = _width(cell)
        built = _built(description, width, np.random.default_rng(0))
        _check_built(built, width)
        for name, value in (("description", description), ("width", width), ("_built", built)):
            object.__setattr__(self, name, value)

    @classmethod
    def from_description(cls, description: str, *, most: int | None = None) -> "KerasCell":
        """Return the cell that a description stands for.

        Args:
            description: as `description` is.
            most: the most numbers that its weights can have; a larger cell is refused.

        Raises:
            ArgumentError: Keras is missing, a class of the cell is not registered, or the
                description is invalid.
        """
        return cls(_made(keras_on_jax(), description, most))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the cell by its description; its class must be registered where it is read."""
        return KerasCell.from_description, (self.description,)

    def init(self, rng: np.random.Generator, width: int) -> tuple[Array, ...]:
        """Return fresh weights, drawn by the cell's initialisers, in the order of Keras.

        Raises:
            ConfigError: the cell has another number of units than `width`.
        """
        if width != self.width:
            raise ConfigError(
                f"config model.width: expected {self.width}, the units of the Keras cell, came {width}. "
                "Leave model.width out, or make a cell of that many units."
            )
        weights = _built(self.description, width, rng).trainable_variables
        return tuple(np.array(variable.value) for variable in weights)

    def start(self, params: tuple[Array, ...], batch: int) -> Tree:
        """Return the cell's initial state, [B, ...]."""
        with self._with_weights(params):
            return _like(params[0], _tuples(_initial_state(self._built, batch)))

    def lift(self, params: tuple[Array, ...], x: Array) -> Array:
        """Return x: a Keras cell treats its input inside its step."""
        return x

    def step(self, params: tuple[Array, ...], state: Tree, inputs: Array) -> tuple[Tree, Array]:
        """Return the result of `cell(inputs, states)`, the state first."""
        others = [
            variable.value for variable in self._built.non_trainable_variables
        ]  # seeds, which are never drawn from
        (y, new), _ = self._built.stateless_call(
            list(params), others, inputs, _lists(state), **_no_training(self._built)
        )
        return _like(inputs, _tuples(new)), _like(inputs, y)

    def to_segue(self, params: tuple[Array, ...]) -> tuple[Cell, Any]:
        """Return Segue's cell with the same equation, and its parameters.

        Raises:
            ArgumentError: Segue has no such cell; see `segue.interop.from_keras`.
        """
        cell = segue_cell(self._built)
        return cell, params_of(cell, [np.asarray(each) for each in params])

    @contextmanager
    def _with_weights(self, params: tuple[Array, ...]) -> Iterator[None]:
        pairs = list(zip(self._built.trainable_variables, params, strict=True))
        with keras_on_jax().StatelessScope(state_mapping=pairs):
            yield


def _check_cell(cell: Any) -> None:
    if not hasattr(cell, "state_size") or not callable(getattr(cell, "call", None)):
        raise ArgumentError(
            f"KerasCell: expected a cell with state_size and call(inputs, states), such as keras.layers.LSTMCell(64), "
            f"came {type(cell).__name__}. Of a layer, give its cell."
        )
    for name in ("dropout", "recurrent_dropout"):
        if getattr(cell, name, 0.0):
            raise ArgumentError(
                f"KerasCell: expected a cell without dropout, {type(cell).__name__} has {name}={getattr(cell, name)}. "
                "Leave it out: model.dropout acts around every cell."
            )

    kinds = {str(getattr(cell, name, "float32")) for name in ("compute_dtype", "variable_dtype")}
    if kinds != {"float32"}:
        raise ArgumentError(
            f"KerasCell: expected a cell of float32, {type(cell).__name__} has {', '.join(sorted(kinds))}. "
            'Make it with dtype="float32".'
        )


def _check_built(cell: Any, width: int) -> None:
    """Run one step and check that weights, state and output fit a network."""
    name, weights = type(cell).__name__, cell.trainable_weights
    if not weights or cell.non_trainable_weights:
        numbers = f"{len(weights)} trained and {len(cell.non_trainable_weights)} others"
        raise ArgumentError(f"KerasCell: expected a cell whose weights are all trained, {name} has {numbers}.")
    state = _initial_state(cell, 2)
    y, new = cell(np.zeros((2, width), np.float32), state, **_no_training(cell))
    dtypes = {str(np.asarray(each).dtype) for each in [y, *_flat(new), *(w.value for w in weights)]}
    shapes = [np.shape(each) for each in _flat(new)]
    if dtypes != {"float32"} or np.shape(y) != (2, width) or shapes != [np.shape(each) for each in _flat(state)]:
        raise ArgumentError(
            f"KerasCell: expected float32 output [batch, {width}] and new states shaped like the old, {name} gives "
            f"{', '.join(sorted(dtypes))}, output {np.shape(y)}, states {shapes} for a batch of 2."
        )


def _width(cell: Any) -> int:
    size = getattr(cell, "output_size", None) or next(iter(_flat(cell.state_size)))
    return int(size)


def _built(description: str, width: int, rng: np.random.Generator) -> Any:
    """Return a new cell with weights, as drawn from `rng`."""
    # Initialisers without a seed take a seed from Python's generator, whose state is restored.
    before = random.getstate()
    random.seed(int(rng.integers(1 << 62)))
    try:
        cell = _made(keras_on_jax(), description)
        if not cell.built:
            cell.build((None, width))
        cell(np.zeros((1, width), np.float32), _initial_state(cell, 1), **_no_training(cell))  # what build left out
    finally:
        random.setstate(before)
    return cell


def _initial_state(cell: Any, batch: int) -> Any:
    if hasattr(cell, "get_initial_state"):
        state = cell.get_initial_state(batch_size=batch)
    else:
        state = [np.zeros((batch, size), np.float32) for size in _flat(cell.state_size)]
    return state if isinstance(state, list | tuple) else [state]


def _no_training(cell: Any) -> dict[str, bool]:
    return {"training": False} if "training" in inspect.signature(cell.call).parameters else {}


def _described(keras: Any, cell: Any) -> str:
    """Return a cell as JSON: its class and configuration, without names that Keras numbers."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of a lambda, which is an error here
            tree = keras.saving.serialize_keras_object(cell)
        text = json.dumps(_unnamed(tree), sort_keys=True)
        _check_registered(keras, tree)
    except (TypeError, ValueError, OSError, NotImplementedError) as error:
        if isinstance(error, ArgumentError):  # a ValueError, too
            raise
        raise ArgumentError(
            f"KerasCell: expected a cell that can be written as JSON, {type(cell).__name__} cannot ({error}). "
            "Give it get_config() with plain values."
        ) from None
    return text


def _made(keras: Any, description: str, most: int | None = None) -> Any:
    try:
        tree = json_of(description)
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise ArgumentError(f"KerasCell: expected a description in JSON, came {description[:40]!r}.")
    try:
        _check_registered(keras, tree)
        if most is not None:
            _check_units(tree, most)
        return keras.saving.deserialize_keras_object(tree, safe_mode=True)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"KerasCell: expected a configuration that makes a cell, that of {tree.get('class_name')} does not: "
            f"{_last_line(error)}. Check its get_config(), and name and register functions."
        ) from None


def _last_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[-1][:200]


def _check_units(node: Any, most: int) -> None:
    """Refuse more units than the weights allow: each cell has units x units weights."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if name == "units" and not (isinstance(value, int) and 1 <= value * value <= most):
            raise ArgumentError(
                f"KerasCell: expected units whose square is at most the {most:,} weights, came {value!r:.40}. "
                "Take the model from its source again."
            )
        _check_units(value, most)


def _unnamed(node: Any) -> Any:
    if isinstance(node, list):
        return [_unnamed(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {name: _unnamed(value) for name, value in node.items()}
    config = node.get("config")
    if isinstance(config, dict) and {"name", "trainable"} <= config.keys():  # of a layer
        node["config"] = config | {"name": str(node.get("class_name", "cell")).lower()}
    return node


def _check_registered(keras: Any, node: Any) -> None:
    """Refuse a description with a class or function that is not of Keras and not registered."""
    if isinstance(node, list | tuple):
        for each in node:
            _check_registered(keras, each)
    if not isinstance(node, dict):
        return
    if "class_name" in node:
        function = node.get("registered_name") == "function"
        name = node["config"] if function else node.get("registered_name") or node["class_name"]
        of_keras = _is_of_keras(str(node.get("module") or ""), str(node["class_name"]))
        of_keras = of_keras or (function and hasattr(keras.activations, str(name)))
        if not of_keras and keras.saving.get_registered_object(name) is None:
            raise ArgumentError(
                f'KerasCell: expected classes and functions of Keras or registered ones, came "{name}". Put '
                '@keras.saving.register_keras_serializable(package="mine") above it, and import it before the model '
                "is loaded."
            )
    for value in node.values():
        _check_registered(keras, value)


def _is_of_keras(module: str, name: str) -> bool:
    """Say whether Keras makes cells of a class; making other classes may open files."""
    if module == "keras.layers":
        return name.endswith(("Cell", "Cells", "LU", "Activation", "Softmax"))
    return module in ("keras", "keras.initializers", "keras.regularizers", "keras.constraints", "keras.activations")


def _flat(tree: Any) -> Iterator[Any]:
    if isinstance(tree, list | tuple):
        for each in tree:
            yield from _flat(each)
    else:
        yield tree


def _tuples(state: Any) -> Tree:
    """Return a state of Keras as nested tuples."""
    if not isinstance(state, list | tuple):
        return (state,)
    return tuple(_tuples(each) if isinstance(each, list | tuple) else each for each in state)


def _lists(state: Tree) -> Any:
    return [_lists(each) if isinstance(each, tuple) else each for each in state]


def _like(known: Array, tree: Tree) -> Tree:
    """Return a tree of JAX arrays in the library of a known array."""
    if is_jax(namespace(known)):
        return map_tree(lambda array: namespace(known).asarray(array), tree)
    return map_tree(np.asarray, tree)
