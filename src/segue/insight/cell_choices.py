"""Cells by the names of insights: the plain recurrence stands once for each activation."""

from segue.errors import ArgumentError
from segue.model.activations import ACTIVATIONS
from segue.model.cells import CELLS, Cell, make_cell

#: Names, the plain recurrence first; `simple_rnn` alone is the one with tanh.
NAMES = (*(f"simple_rnn:{name}" for name in ACTIVATIONS), *(name for name in CELLS if name != "simple_rnn"))


def settings_of(name: str) -> dict[str, str]:
    """Return the settings that choose a cell.

    Raises:
        ArgumentError: there is no such cell.

    Example:
        >>> settings_of("simple_rnn:relu")
        {'model.cell': 'simple_rnn', 'model.activation': 'relu'}
        >>> settings_of("tcn")
        Traceback (most recent call last):
        ...
        segue.errors.ArgumentError: cell: expected one of simple_rnn:tanh, simple_rnn:relu, simple_rnn:leaky_relu, \
linear, gru, lstm, came "tcn". Give one of these names.
    """
    full = "simple_rnn:tanh" if name == "simple_rnn" else name
    if full not in NAMES:
        raise ArgumentError(f'cell: expected one of {", ".join(NAMES)}, came "{name}". Give one of these names.')
    cell, _, activation = full.partition(":")
    return {"model.cell": cell} | ({"model.activation": activation} if activation else {})


def cell_of(name: str) -> Cell:
    """Return the cell of a name; an ArgumentError if there is none."""
    settings = settings_of(name)
    return make_cell(settings["model.cell"], activation=settings.get("model.activation", "tanh"))
