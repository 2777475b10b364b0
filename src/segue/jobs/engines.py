"""Where the work on buckets runs: in this process, or on a Ray cluster. Both give the same bytes."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Protocol, TypeVar

from segue.errors import DataError

_Task = TypeVar("_Task")
#: Work that is cut by keys: yields a key from -1, and bytes for it.
Split = Callable[[_Task], Iterable[tuple[int, bytes]]]
#: All bytes of a key, in any order, to one result.
Reduce = Callable[[int, list[bytes]], bytes]


class Engine(Protocol):
    """Runs functions on tasks; functions, tasks and results can be pickled."""

    def map(self, work: Callable[[], Callable[[int], bytes]], numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield each number with the result of its work, in any order; `work` is made once for many."""
        ...

    def map_reduce(self, split: Split[_Task], tasks: Sequence[_Task], reduce: Reduce, keys: int) -> Iterator[bytes]:
        """Split each task, gather the bytes of each of `keys` keys, and yield the results in any order."""
        ...


class LocalEngine:
    """Runs a task after the other in its process, and keeps the bytes of keys on disk in between.

    Args:
        scratch: the folder of temporary files; None takes the system's.

    Example:
        >>> def by_letter(word):
        ...     yield ord(word[0]), word.encode()
        >>> list(LocalEngine().map_reduce(by_letter, ["bear", "ant", "bee"], lambda key, words: b" ".join(words), 2))
        [b'ant', b'bear bee']
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self.scratch = scratch

    def map(self, work: Callable[[], Callable[[int], bytes]], numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield each number with the result of its work, in order."""
        run = work() if numbers else None
        for number in numbers:
            yield number, run(number)  # type: ignore[misc]

    def map_reduce(self, split: Split[_Task], tasks: Sequence[_Task], reduce: Reduce, keys: int) -> Iterator[bytes]:
        """Split each task into files by key, then yield the result of each key in order."""
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="segue-") as folder, ExitStack() as stack:
            files: dict[int, IO[bytes]] = {}
            try:
                for task in tasks:
                    for key, part in split(task):
                        if key not in files:
                            files[key] = stack.enter_context((Path(folder) / str(key)).open("w+b"))
                        files[key].write(len(part).to_bytes(8, "little") + part)
            except OSError as error:
                raise DataError(
                    f"{folder}: temporary files cannot be written: {error.strerror or error}. "
                    "Make room there, or set TMPDIR to a folder with room."
                ) from error
            for key, file in sorted(files.items()):
                file.seek(0)
                parts = []
                while size := file.read(8):
                    parts.append(file.read(int.from_bytes(size, "little")))
                yield reduce(key, parts)
                file.truncate(0)
