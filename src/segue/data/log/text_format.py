"""How a text file is written: its encoding and the character between its columns, found in the file itself.

Knows: byte order marks, what UTF-8 cannot be, separators that give each line as many values.
Does not know: what the columns mean.
"""

import codecs
import contextlib
import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

#: So many bytes and lines tell the separator; the encoding is told by all bytes.
_HEAD, _LINES = 1 << 16, 50
_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
#: The longer marks first: that of UTF-32 begins as that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ASCII = bytes(range(128))
_NOT_IN_CP1252 = {0x81, 0x8D, 0x8F, 0x90, 0x9D}


class Found(NamedTuple):
    """What was found of a file, and what of this a reader must be told."""

    value: str
    note: str = ""


def encoding_of(path: Path) -> Found:
    """Return the encoding of a text file: by its mark, or UTF-8 where every byte fits, or else a Western one.

    Text that is UTF-8 for the most part and damaged in few places is called UTF-8, and is an error later.

    Cost: one pass over the bytes; of a file in .zst only the mark is looked for.
    """
    try:
        return _encoding_of(path)
    except (OSError, EOFError, zlib.error):  # a damaged file is the reader's to explain
        return Found("utf-8")


def _encoding_of(path: Path) -> Found:
    head = next(_chunks(path), b"")
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Found(name, f"{name.upper()}, as the mark at its beginning says" * (name != "utf-8-sig"))
    if path.suffix.lower() == ".zst":
        return Found("utf-8")
    if b"\0" in head[:1000]:
        name = "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be"
        return Found(name, f"{name.upper()} (guessed)")
    if _is_utf8(path):
        return Found("utf-8")
    valid, broken, high = _high_bytes(path)
    if valid > broken:
        return Found("utf-8")
    western = "cp1252" if min(high) < 0xA0 and not high & _NOT_IN_CP1252 else "latin-1"
    return Found(western, f"{western} (guessed: the bytes are not UTF-8; encoding= (--encoding) names another)")


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in _chunks(path):
            if not chunk.isascii() or decoder.getstate()[0]:
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _high_bytes(path: Path) -> tuple[int, int, set[int]]:
    """Return how many letters beyond ASCII are UTF-8, how many places are not, and which bytes beyond ASCII occur."""
    decoder, valid, broken, high = codecs.getincrementaldecoder("utf-8")("replace"), 0, 0, set[int]()
    for chunk in _chunks(path):
        text, beyond = decoder.decode(chunk), chunk.translate(None, _ASCII)
        wrong = text.count("\ufffd")
        broken += wrong
        valid += len(text) - (len(chunk) - len(beyond)) - wrong
        high.update(beyond)
    return valid, broken, high


def separator_of(path: Path, encoding: str, usual: str) -> Found:
    """Return the character between the columns: the one that gives the most values, as many in each line.

    Where none does, it is the usual one of such a file if the first line has it, and else the one that the first
    line has most.
    """
    try:
        lines = _first_lines(path, encoding)
    except (OSError, EOFError, zlib.error, UnicodeError, pl.exceptions.PolarsError):
        return Found(usual)
    candidates = (usual, *(each for each in _SEPARATORS if each != usual))
    widths = {each: _widths(lines, each) for each in candidates}
    steady = {each: found[0] for each, found in widths.items() if found and min(found) == max(found) > 1}
    if not steady and widths[usual][:1] > [1]:
        return Found(usual)
    best = steady or {each: found[0] for each, found in widths.items() if found}
    value = max(best, key=lambda each: best[each], default=usual)
    return Found(value, f"columns separated by {_NAMES[value]}" * (value != usual))


def _widths(lines: list[str], separator: str) -> list[int]:
    try:
        return [len(row) for row in csv.reader(lines, delimiter=separator) if row]
    except csv.Error:
        return []


def _first_lines(path: Path, encoding: str) -> list[str]:
    if path.suffix.lower() == ".zst":
        plain = pl.read_csv(
            path, has_header=False, separator="\x1f", quote_char=None, infer_schema=False, n_rows=_LINES
        )
        return plain.to_series().fill_null("").to_list()
    head = next(_chunks(path), b"")
    whole = len(head) < _HEAD
    lines = codecs.getincrementaldecoder(encoding)("replace").decode(head, whole).splitlines()
    return lines[: min(_LINES, len(lines) - (not whole))] or lines


def _chunks(path: Path) -> Iterator[bytes]:
    """Give the bytes of a file, unpacked where it is .gz; the first as many as tell the separator."""
    with path.open("rb") as plain, contextlib.ExitStack() as stack:
        file = stack.enter_context(gzip.open(plain)) if path.suffix.lower() == ".gz" else plain
        size = _HEAD
        while chunk := file.read(size):
            yield chunk
            size = 1 << 20
