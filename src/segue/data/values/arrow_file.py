"""A table as the bytes of an Arrow file, and back, without trust in the bytes.

The sizes that a file states are checked before a reader allocates memory. The layout is that of the
format's `File.fbs`, `Message.fbs` and `Schema.fbs` (FlatBuffers).
"""

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from segue.errors import ModelError

_MARK = b"ARROW1"
#: The deepest nesting of types.
_DEPTH = 16
#: The numbers of the fields in the tables of the format.
_SCHEMA, _DICTIONARIES, _BATCHES = 1, 2, 3  # of a footer
_FIELDS, _CHILDREN = 1, 5  # of a schema, of a field
_KIND, _HEADER = 1, 2  # of a message
_DICTIONARY, _BATCH, _DATA = 2, 3, 1  # kinds of messages; the batch in a dictionary
_LENGTH, _NODES, _BUFFERS, _COMPRESSION, _VARIADIC = range(5)  # of a batch


def table_to_bytes(table: pl.DataFrame) -> bytes:
    """Return a table as an Arrow file."""
    buffer = io.BytesIO()
    table.write_ipc(buffer)
    return buffer.getvalue()


def table_from_bytes(data: bytes, height: int) -> pl.DataFrame:
    """Return the table in an Arrow file.

    Args:
        data: the file.
        height: the expected number of rows.

    Raises:
        ModelError: the bytes are no such file, state impossible sizes, are compressed, or have
            other rows.

    Cost: O(bytes) time and memory, whatever sizes the bytes state.

    Example:
        >>> table = pl.DataFrame({"item": ["a", "b"]})
        >>> table_from_bytes(table_to_bytes(table), 2).equals(table)
        True
    """
    try:
        _check(data, height)
        table = pl.read_ipc(io.BytesIO(data))
    except (ValueError, struct.error, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        message = str(error).partition("\n")[0][:200]
        raise ModelError(
            f"expected an Arrow file of {height:,} rows, its bytes are none ({message}). "
            "Take the model from its source again."
        ) from None
    if table.height != height:
        raise ModelError(
            f"expected an Arrow file of {height:,} rows, came {table.height:,}. Take the model from its source again."
        )
    return table


class _Table(NamedTuple):
    """A table of FlatBuffers: offsets lead to its fields, and each offset is checked."""

    data: bytes
    at: int

    def place(self, field: int) -> int | None:
        """Return the position of a field, None where the table lacks it."""
        fields = self.at - _number(self.data, "<i", self.at)
        entry = 4 + 2 * field
        if entry + 2 > _number(self.data, "<H", fields):
            return None
        offset = _number(self.data, "<H", fields + entry)
        return self.at + offset if offset else None

    def table(self, field: int) -> "_Table | None":
        """Return the table in a field."""
        at = self.place(field)
        return None if at is None else _Table(self.data, at + _number(self.data, "<I", at))

    def vector(self, field: int, size: int) -> list[int]:
        """Return the positions of the elements of a vector, each of `size` bytes."""
        at = self.place(field)
        if at is None:
            return []
        begin = at + _number(self.data, "<I", at)
        count = _number(self.data, "<I", begin)
        if begin + 4 + count * size > len(self.data):
            raise ValueError(f"a list of {count:,} in {len(self.data):,} bytes")
        return list(range(begin + 4, begin + 4 + count * size, size))

    def number(self, field: int, form: str) -> int:
        """Return a number, 0 where the table lacks it."""
        at = self.place(field)
        return 0 if at is None else _number(self.data, form, at)


def _number(data: bytes, form: str, at: int) -> int:
    if at < 0:
        raise ValueError("an offset before the beginning")
    return int(struct.unpack_from(form, data, at)[0])


def _root(data: bytes) -> _Table:
    return _Table(data, _number(data, "<I", 0))


def _check(data: bytes, height: int) -> None:
    """Raise ValueError unless the bytes of an Arrow file hold all that its sizes state."""
    if not (data.startswith(_MARK) and data.endswith(_MARK)):
        raise ValueError("no mark of an Arrow file")
    end = len(data) - len(_MARK) - 4
    size = _number(data, "<i", end)
    if not 0 < size <= end:
        raise ValueError(f"a footer of {size:,} bytes")
    footer = _root(data[end - size : end])
    schema = footer.table(_SCHEMA)
    if schema is None:
        raise ValueError("no schema")
    _check_depth(schema, _FIELDS, _DEPTH)
    rows = sum(_check_batch(batch, body, height) for batch, body in _batches(data, footer, _BATCHES))
    if rows != height:
        raise ValueError(f"batches of {rows:,} rows")
    for batch, body in _batches(data, footer, _DICTIONARIES):
        _check_batch(batch, body, len(data))


def _check_depth(parent: _Table, field: int, left: int) -> None:
    if not left:
        raise ValueError(f"types more than {_DEPTH} deep")
    for at in parent.vector(field, 4):
        _check_depth(_Table(parent.data, at + _number(parent.data, "<I", at)), _CHILDREN, left - 1)


def _batches(data: bytes, footer: _Table, field: int) -> Iterator[tuple[_Table, int]]:
    """Yield the batches of rows or of dictionary words, and the bytes of each body."""
    for at in footer.vector(field, 24):
        begin, metadata, body = (
            _number(footer.data, form, at + place) for form, place in (("<q", 0), ("<i", 8), ("<q", 16))
        )
        if min(begin, metadata, body) < 0 or begin + metadata + body > len(data):
            raise ValueError(f"a batch of {metadata:,} and {body:,} bytes at {begin:,}")
        head = 8 if data[begin : begin + 4] == b"\xff\xff\xff\xff" else 4
        size = _number(data, "<i", begin + head - 4)
        if not 0 < size <= metadata - head:
            raise ValueError(f"a message of {size:,} in {metadata:,} bytes")
        message = _root(data[begin + head : begin + head + size])
        kind, batch = message.number(_KIND, "<B"), message.table(_HEADER)
        if batch is not None and kind == _DICTIONARY:
            batch = batch.table(_DATA)
        if batch is None or kind != (_BATCH if field == _BATCHES else _DICTIONARY):
            raise ValueError("a message that is no batch")
        yield batch, body


def _check_batch(batch: _Table, body: int, most: int) -> int:
    """Return the number of rows of a batch whose sizes fit its bytes."""
    if batch.table(_COMPRESSION) is not None:
        raise ValueError("compressed")
    rows = batch.number(_LENGTH, "<q")
    nodes = [_number(batch.data, "<q", at) for at in batch.vector(_NODES, 16)]
    if not all(0 <= count <= max(most, 8 * body) for count in (rows, *nodes)):
        raise ValueError(f"columns of {max([rows, *nodes]):,} rows")
    buffers = batch.vector(_BUFFERS, 16)
    for at in buffers:
        begin, size = _number(batch.data, "<q", at), _number(batch.data, "<q", at + 8)
        if min(begin, size) < 0 or begin + size > body:
            raise ValueError(f"numbers of {size:,} bytes at {begin:,} of {body:,}")
    of_views = [_number(batch.data, "<q", at) for at in batch.vector(_VARIADIC, 8)]
    if not all(0 <= count <= len(buffers) for count in of_views):
        raise ValueError(f"texts in {max(of_views):,} parts")
    return rows
