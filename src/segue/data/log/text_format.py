"""The encoding of a text file and its separator, detected from the file."""

import codecs
import contextlib
import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

#: Bytes and lines that are read for the separator; for the encoding, the whole file is read.
_HEAD, _LINES = 1 << 16, 50
_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
#: The longer marks first: the mark of UTF-32 begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ASCII = bytes(range(128))
_NOT_IN_CP1252 = {0x81, 0x8D, 0x8F, 0x90, 0x9D}


class Detected(NamedTuple):
    """An encoding or a separator, and a note where it is not the usual one."""

    value: str
    note: str = ""


def encoding_of(path: Path) -> Detected:
    """Return the encoding of a text file: by its mark, else UTF-8 if every byte fits, else Western.

    A text that is mostly UTF-8 and damaged in few places counts as UTF-8; reading names the damage.

    Cost: one pass over the bytes; of a .zst file only the mark is read.
    """
    try:
        return _encoding_of(path)
    except (OSError, EOFError, zlib.error):  # the reader explains a damaged file
        return Detected("utf-8")


def _encoding_of(path: Path) -> Detected:
    head = next(_chunks(path), b"")
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Detected(name, f"{name.upper()}, as the mark at its beginning says" * (name != "utf-8-sig"))
    if path.suffix.lower() == ".zst":
        return Detected("utf-8")
    if b"\0" in head[:1000]:
        name = "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be"
        return Detected(name, f"{name.upper()} (guessed)")
    if _is_utf8(path):
        return Detected("utf-8")
    valid, broken, high = _high_bytes(path)
    if valid > broken:
        return Detected("utf-8")
    western = "cp1252" if min(high) < 0xA0 and not high & _NOT_IN_CP1252 else "latin-1"
    return Detected(western, f"{western} (guessed: the bytes are not UTF-8; encoding= (--encoding) names another)")


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
    """Return the counts of non-ASCII letters and of invalid places, and all non-ASCII bytes."""
    decoder, valid, broken, high = codecs.getincrementaldecoder("utf-8")("replace"), 0, 0, set[int]()
    for chunk in _chunks(path):
        text, beyond = decoder.decode(chunk), chunk.translate(None, _ASCII)
        wrong = text.count("\ufffd")
        broken += wrong
        valid += len(text) - (len(chunk) - len(beyond)) - wrong
        high.update(beyond)
    return valid, broken, high


def separator_of(path: Path, encoding: str, usual: str) -> Detected:
    """Return the character that splits all lines into the same number of values.

    Else it is the usual separator if the first line has it, else that line's most frequent one.
    """
    try:
        lines = _first_lines(path, encoding)
    except (OSError, EOFError, zlib.error, UnicodeError, pl.exceptions.PolarsError):
        return Detected(usual)
    widths = {sep: _widths(lines, sep) for sep in (usual, *(sep for sep in _SEPARATORS if sep != usual))}
    steady = {sep: counts[0] for sep, counts in widths.items() if counts and min(counts) == max(counts) > 1}
    if not steady and widths[usual][:1] > [1]:
        return Detected(usual)
    best = steady or {sep: counts[0] for sep, counts in widths.items() if counts}
    value = max(best, key=lambda sep: best[sep], default=usual)
    return Detected(value, f"columns separated by {_NAMES[value]}" * (value != usual))


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
    """Yield the bytes of a file, unpacked where it is .gz, the first `_HEAD` bytes first."""
    with path.open("rb") as plain, contextlib.ExitStack() as stack:
        file = stack.enter_context(gzip.open(plain)) if path.suffix.lower() == ".gz" else plain
        size = _HEAD
        while chunk := file.read(size):
            yield chunk
            size = 1 << 20
