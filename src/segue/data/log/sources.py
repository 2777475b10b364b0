"""A file or a table as a lazy frame, and the error of a reader as a message that helps."""

import codecs
import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from segue.addresses import shown
from segue.data.log.text_format import Detected, encoding_of, separator_of
from segue.errors import ArgumentError, DataError

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}
_PARQUET = (".parquet", ".pq")
_NDJSON = (".ndjson", ".jsonl")
#: The rows of NDJSON that are searched for columns.
_ROWS = 10_000
_COMPRESSED = (".gz", ".zst")
_KINDS = "CSV, TSV, Parquet or NDJSON (.csv .tsv .inter .parquet .pq .ndjson .jsonl, text also with .gz or .zst)"


@dataclass(frozen=True)
class Reading:
    """How a log is written, where this cannot be guessed.

    Args:
        time_format: the form of the times in the notation of chrono ("%d.%m.%Y %H:%M"), or the unit
            of an epoch: "s", "ms", "us", "ns". None guesses among epochs and ISO 8601.
        header: whether the first line names the columns; None: it does. Else they are "1", "2", ...
        sep: the separator of a text file; None detects it.
        encoding: of a text file, for example "latin-1"; None detects it.
        context: further columns to read, under their names.
        missing: words that mean a missing value, such as "NULL", in all columns.

    Raises:
        ArgumentError: `sep` is not one ASCII character, the encoding is unknown, or a list is one
            text.
    """

    time_format: str | None = None
    header: bool | None = None
    sep: str | None = None
    encoding: str | None = None
    context: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("context", "missing"):
            if isinstance(getattr(self, name), str):
                raise ArgumentError(
                    f'{name}: expected a list of texts, came "{getattr(self, name)}". Put it in a list.'
                )
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.sep is not None and (len(self.sep) != 1 or not self.sep.isascii()):
            raise ArgumentError(
                f'sep (--sep): expected one ASCII character, came "{self.sep}". '
                "Replace it in the file by a tab, or read the file into a table and give the table."
            )
        try:
            "".encode(self.encoding or "utf-8")
        except LookupError:
            raise ArgumentError(
                f'encoding: expected a name that Python knows, came "{self.encoding}". '
                'Try "utf-8", "latin-1" or "utf-16".'
            ) from None


@dataclass(frozen=True)
class Source:
    """An opened log: its name in messages, a lazy frame, its path, notes on encoding and separator."""

    name: str
    frame: pl.LazyFrame
    path: Path | None = None
    sep: str | None = None
    encoding: str = "utf-8"
    notes: tuple[str, ...] = ()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the error of a reader into a message of four parts."""
        try:
            yield
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise DataError(_explain(self, error)) from error


def open_source(source: object, reading: Reading) -> Source:
    """Return a path or table as a lazy frame.

    Args:
        source: a path, or a table of Polars (lazy too), pandas or Arrow.
        reading: how a text file is written.

    Raises:
        ArgumentError: `source` is neither a path nor a table.
        DataError: the file does not exist, is empty, or has an unknown extension.

    Cost: O(1) for a file, O(rows) for a pandas table.
    """
    if isinstance(source, (str, Path)):
        return _open_file(Path(source), reading)
    if isinstance(source, pl.LazyFrame):
        return Source("table", source)
    if isinstance(source, pl.DataFrame):
        return Source("table", source.lazy())
    library = type(source).__module__.partition(".")[0]
    if library == "pandas" or hasattr(source, "__arrow_c_stream__"):
        return Source("table", _converted(source, library).lazy())
    raise ArgumentError(
        f"read_events: expected a path or a Polars, pandas or Arrow table, came {type(source).__name__}. "
        "Build a polars.DataFrame of it."
    )


def without_words(
    frame: pl.LazyFrame, names: Iterable[str], ids: Mapping[str, str], missing: Collection[str]
) -> pl.LazyFrame:
    """Return a frame with null for the words that mean missing; columns of ids stay as they are.

    Args:
        names: the columns to change.
        ids: role -> column.
        missing: the words; blanks around them do not count.
    """
    if not missing:
        return frame
    kinds, of_ids = frame.collect_schema(), [ids[role] for role in ("user", "item") if role in ids]
    texts = [name for name in names if kinds[name] in (pl.String, pl.Categorical, pl.Enum) and name not in of_ids]
    words = [word.strip() for word in missing]
    return frame.with_columns(
        pl.when(~pl.col(name).cast(pl.String).str.strip_chars().is_in(words)).then(name) for name in texts
    )


def _converted(table: Any, library: str) -> pl.DataFrame:
    try:
        return pl.from_pandas(table) if library == "pandas" else pl.DataFrame(table)
    except Exception as error:  # the exceptions of libraries that are not imported here
        raise DataError(
            f"table: expected columns of one type each and with distinct names, {library} says: {error}. "
            "Make ids text first (astype(str)) and rename columns that stand twice."
        ) from error


def _open_file(path: Path, reading: Reading) -> Source:
    if not path.is_file():
        came = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"{shown(path)}: expected a file to read, found {came}. Check the path (from {Path.cwd()}).")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name}: expected rows of events, the file is empty (0 bytes). Check its export.")
    packed = path.suffix.lower() in _COMPRESSED
    kind = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    if kind in _PARQUET and not packed:
        return Source(path.name, pl.scan_parquet(path, glob=False), path)
    usual = _SEPARATORS.get(kind)
    if kind not in _NDJSON and usual is None and reading.sep is None:
        raise DataError(
            f'{path.name}: expected {_KINDS}, came "{kind or path.name}". '
            "Rename it, or give sep= (--sep) if it is text with a separator."
        )
    encoding = Detected(reading.encoding) if reading.encoding else encoding_of(path)
    notes = [encoding.note]
    if kind in _NDJSON:
        return Source(path.name, _ndjson(path, encoding.value), path, None, encoding.value, _notes(path, notes))
    sep = Detected(reading.sep) if reading.sep else separator_of(path, encoding.value, usual or ",")
    notes.append(sep.note)
    frame = _text(path, sep.value, encoding.value, header=reading.header is not False)
    return Source(path.name, frame, path, sep.value, encoding.value, _notes(path, notes))


def _notes(path: Path, notes: list[str]) -> tuple[str, ...]:
    text = "; ".join(note for note in notes if note)
    return (f"{path.name} is read as {text}.",) * bool(text)


def _ndjson(path: Path, encoding: str) -> pl.LazyFrame:
    # Every plain value is read as text, so that long ids and leading zeros stay.
    content = path if _is_utf8(encoding) else _recoded(path, encoding)
    try:
        schema = pl.scan_ndjson(content, infer_schema_length=_ROWS).collect_schema()
        text = {name: kind if kind.is_nested() else pl.String() for name, kind in schema.items()}
        return pl.scan_ndjson(content, schema=text)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(_explain(Source(path.name, pl.LazyFrame(), path), error)) from error


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"


def _text(path: Path, sep: str, encoding: str, *, header: bool) -> pl.LazyFrame:
    frame = pl.scan_csv(
        path if _is_utf8(encoding.removesuffix("-sig")) else _recoded(path, encoding),
        has_header=header,
        separator=sep,
        infer_schema=False,
        glob=False,
    )
    if header:
        return frame
    with Source(path.name, frame, path, sep).explained():
        names = frame.collect_schema().names()
    return frame.rename({name: str(position) for position, name in enumerate(names, start=1)})


def _recoded(path: Path, encoding: str) -> bytes:
    if path.suffix.lower() == ".zst":
        raise ArgumentError(f"{path.name}: expected UTF-8 inside .zst, came {encoding}. Unpack it first.")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
        return content.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name}: expected text in {encoding}, byte {error.start:,} is not. Give another encoding."
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(_damaged(path)) from None


def _explain(source: Source, error: BaseException) -> str:
    message = str(error).partition("\n")[0]
    path = source.path
    if path is None:
        return f"{source.name}: expected a table that can be read, Polars says: {message}. Check its columns."
    if path.suffix.lower() in _COMPRESSED and not _is_whole(path, message):
        return _damaged(path)
    if "empty" in message:
        return f"{source.name}: expected rows of events, the file holds none. Check its export."
    if "utf-8" in message.lower() or "utf8" in message.lower():
        return (
            f"{source.name}: expected text in UTF-8, {_where_not_utf8(path)} is not. "
            'Give its encoding, for example encoding="latin-1", or convert the file.'
        )
    if "more fields" in message:
        return (
            f"{source.name}{_where_ragged(source)}. "
            "Put a value that contains the separator in double quotes, or give another sep= (--sep)."
        )
    if "could not parse" in message or "malformed" in message:
        return (
            f"{source.name}: expected each double quote to be closed, one seems to be open until the end of the file. "
            "Close it, or double quotes inside a value."
        )
    return f"{source.name}: expected a file of its kind, the reader says: {message}. Check or export it again."


def _damaged(path: Path) -> str:
    return f"{path.name}: expected a whole {path.suffix} file, it is damaged or cut short. Copy or download it again."


def _is_whole(path: Path, message: str) -> bool:
    if path.suffix.lower() == ".zst":
        return not any(word in message.lower() for word in ("zstd", "frame", "corrupt", "incomplete", "unexpected end"))
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except gzip.BadGzipFile as error:
        return "Not a gzipped file" in str(error)  # plain text with a wrong name is read as it is
    except (EOFError, zlib.error):
        return False
    return True


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file, contextlib.ExitStack() as stack:
        yield from stack.enter_context(gzip.open(file)) if path.suffix.lower() == ".gz" else file


def _where_not_utf8(path: Path) -> str:
    if path.suffix.lower() != ".zst":
        for number, line in enumerate(_lines(path), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"byte 0x{line[error.start]:02X} in line {number:,}"
    return "a byte of it"


def _where_ragged(source: Source) -> str:
    usual = ": expected as many values in each row as in the first, a row has more"
    if source.path is None or source.sep is None or source.path.suffix.lower() == ".zst":
        return usual
    text = (line.decode(errors="replace") for line in _lines(source.path))
    rows = csv.reader(text, delimiter=source.sep)
    with contextlib.suppress(csv.Error, StopIteration, io.UnsupportedOperation):
        width = len(next(rows))
        for row in rows:
            if len(row) > width:
                return f", line {rows.line_num:,}: expected {width} values as in the first line, came {len(row)}"
    return usual
