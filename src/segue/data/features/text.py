"""How texts become vectors: by words, static embeddings of a package, or a model on disk."""

import importlib
import importlib.util
import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from segue.data.features.hashing import PLACES, places
from segue.data.values import plain
from segue.errors import ArgumentError
from segue.shapes import Floats

#: Texts encoded at a time, so that memory does not grow with their number.
_GROUP = 4_096
#: The mean of the texts is taken over at most this many of them.
_SAMPLE = 50_000
#: Numbers of a vector of wordllama.
_LLAMA = 256
#: A vector shorter than this is a rounding error.
_NOTHING = 1e-6
_WORD = re.compile(r"\w+")


class TextEncoder(Protocol):
    """Texts to vectors; `text_encoder_from_dict` restores an encoder from `to_dict()`."""

    @property
    def name(self) -> str:
        """The value of the setting that selects the encoder: "words", "wordllama" or a folder."""

    @property
    def width(self) -> int:
        """The numbers per text."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return float32[text, width], each of norm 1; zeros for a text without a known word."""

    def to_dict(self) -> dict[str, Any]:
        """Return the encoder as plain values."""


def text_encoder(name: str = "auto", texts: Sequence[str] | None = None) -> TextEncoder:
    """Return the encoder of a name, fitted to texts.

    Args:
        name: "words" (needs no package), "wordllama" (the extra `text`), "auto" (wordllama where it
            is installed, else words), or a folder with a model of sentence-transformers.
        texts: "words" takes its words and their rarity from them, the other encoders the mean that
            they subtract. With None these subtract nothing.

    Raises:
        ArgumentError: "words" without texts; a package or the folder is missing.

    Cost: O(characters) for words; about 10 microseconds a text for wordllama.

    Example:
        >>> encoder = text_encoder("words", ["A red shoe", "The red hat", "A blue hat"])
        >>> encoder.width, np.linalg.norm(encoder.encode(["RED hat!", "unheard of"]), axis=1).round(3).tolist()
        (256, [1.0, 0.0])
    """
    if name == "auto":
        name = "wordllama" if importlib.util.find_spec("wordllama") is not None else "words"
    if name == "words":
        if texts is None:
            raise ArgumentError(
                'text encoder "words": expected texts to learn words from, came none. Give texts, or use "wordllama".'
            )
        return Words.fit(texts)
    if name == "wordllama":
        return WordLlama(_mean(_embed_wordllama, texts))
    width = _embed_folder(name, ["width"]).shape[1]
    return Folder(name, width, _mean(lambda part: _embed_folder(name, part), texts))


def text_encoder_from_dict(fields: Mapping[str, Any]) -> TextEncoder:
    """Return the encoder of a `to_dict()`; packages are imported with the first text.

    Raises:
        ValueError, KeyError, TypeError: this is no such description.

    Example:
        >>> encoder = text_encoder("words", ["red shoe", "red hat"])
        >>> text_encoder_from_dict(encoder.to_dict()) == encoder
        True
    """
    name = plain.text(fields["name"], "encoder of texts")
    if name == "words":
        number = plain.whole(fields["texts"], "texts")
        words = plain.texts(fields["words"], "words")
        counts = tuple(plain.whole(count, "count of a word", 1, max(number, 1)) for count in fields["counts"])
        if len(counts) != len(words):
            raise ValueError(f"counts: expected one for each of {len(words):,} words, came {len(counts):,}")
        return Words(words, counts, number)
    mean = plain.numbers(fields["mean"], "mean of texts")
    width = _LLAMA if name == "wordllama" else plain.whole(fields["width"], "width of texts", 1)
    if len(mean) != width:
        raise ValueError(f"mean of texts: expected {width:,} numbers, came {len(mean):,}")
    return WordLlama(mean) if name == "wordllama" else Folder(name, width, mean)


@dataclass(frozen=True)
class Words:
    """A text is the set of its words, weighted by rarity, in a count sketch of 256 numbers.

    The weight of a word is ln(1 + texts / texts that hold the word). Words of a single text are not
    known.

    Args:
        words: the known words in lower case.
        counts: for each word, the number of fitted texts that hold it.
        texts: the number of fitted texts.

    Source: inverse document frequency, Spärck Jones (1972); the columns are those of
        `segue.data.features.hashing`.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    texts: int
    name: str = "words"
    width: int = PLACES

    @classmethod
    def fit(cls, texts: Sequence[str]) -> "Words":
        """Count the words of texts. Cost: O(characters)."""
        counts = Counter(word for text in texts for word in _words(text))
        known = sorted((-count, word) for word, count in counts.items() if count > 1)
        return cls(tuple(word for _, word in known), tuple(-count for count, _ in known), len(texts))

    @cached_property
    def _number(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        weights = [math.log1p(self.texts / count) for count in self.counts]
        columns, shares = places("words", self.words)
        return columns, shares * np.array(weights, np.float64)[:, None]

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return float32[text, 256]. Cost: O(characters)."""
        out = np.zeros((len(texts), self.width), np.float32)
        for start in range(0, len(texts), _GROUP):
            out[start : start + _GROUP] = _unit(self._sums(texts[start : start + _GROUP]))
        return out

    def _sums(self, texts: Sequence[str]) -> np.ndarray:
        known = [[self._number[word] for word in _words(text) if word in self._number] for text in texts]
        columns, shares = self._table
        numbers = np.array([number for words in known for number in words], np.int64)
        rows = np.repeat(np.arange(len(texts)), [len(words) for words in known])
        flat = (rows[:, None] * self.width + columns[numbers]).reshape(-1)
        sums = np.bincount(flat, shares[numbers].reshape(-1), minlength=len(texts) * self.width)
        return sums.astype(np.float64).reshape(len(texts), self.width)  # bincount of no words is of integers

    def to_dict(self) -> dict[str, Any]:
        """Return the words, their counts and the number of texts."""
        return {"name": self.name, "texts": self.texts, "words": list(self.words), "counts": list(self.counts)}


@dataclass(frozen=True)
class WordLlama:
    """Averaged static embeddings of the package `wordllama`, less the mean of the fitted texts."""

    mean: tuple[float, ...]
    name: str = "wordllama"

    @property
    def width(self) -> int:
        """The numbers per text: 256."""
        return len(self.mean)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return float32[text, 256]; raises ArgumentError where the package is missing."""
        return _centred(texts, self.mean, _embed_wordllama)

    def to_dict(self) -> dict[str, Any]:
        """Return the mean."""
        return {"name": self.name, "mean": list(self.mean)}


@dataclass(frozen=True)
class Folder:
    """A model of sentence-transformers in a folder, less the mean of the fitted texts."""

    name: str
    width: int
    mean: tuple[float, ...]

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return float32[text, width]; raises ArgumentError without the package or the folder."""
        return _centred(texts, self.mean, lambda part: _embed_folder(self.name, part))

    def to_dict(self) -> dict[str, Any]:
        """Return folder, width and mean."""
        return {"name": self.name, "width": self.width, "mean": list(self.mean)}


def _words(text: str) -> Iterable[str]:
    return dict.fromkeys(_WORD.findall(text.lower()))


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: np.ndarray = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > _NOTHING)
    return units


def _centred(texts: Sequence[str], mean: tuple[float, ...], embed: Any) -> Floats:
    out = np.zeros((len(texts), len(mean)), np.float32)
    rows = [row for row, text in enumerate(texts) if text.strip()]
    centre = np.array(mean, np.float32)
    for start in range(0, len(rows), _GROUP):
        group = rows[start : start + _GROUP]
        out[group] = _unit(_unit(embed([texts[row] for row in group])) - centre)
    return out


def _mean(embed: Any, texts: Sequence[str] | None) -> tuple[float, ...]:
    """Return the mean of the unit vectors of texts, zeros where there are none."""
    sample = [text for text in texts or () if text.strip()]
    sample = sample[:: max(1, len(sample) // _SAMPLE)]
    if len(sample) < 2:
        return (0.0,) * int(embed(["width"]).shape[1])
    total = sum(_unit(embed(sample[start : start + _GROUP])).sum(axis=0) for start in range(0, len(sample), _GROUP))
    return tuple((np.asarray(total, np.float32) / np.float32(len(sample))).tolist())


def _embed_wordllama(texts: list[str]) -> Floats:
    # Padding goes up to the longest text of a batch: texts of like length go together.
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    short = sum(len(text) <= 1_000 for text in texts)
    out = np.zeros((len(texts), _LLAMA), np.float32)
    model = _wordllama()
    for rows, size in ((order[:short], 64), (order[short:], 1)):
        if rows:
            out[rows] = model.embed([texts[row] for row in rows], batch_size=size)
    return out


@lru_cache(maxsize=1)
def _wordllama() -> Any:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    package = _imported("wordllama", "wordllama", "pip install 'segue[text]'")
    # The import configures the logging of the whole process; the old configuration is restored.
    root.handlers[:] = handlers
    root.setLevel(level)
    folder = Path(str(package.__file__)).parent
    return package.WordLlama.load(dim=_LLAMA, cache_dir=folder, disable_download=True)


def _embed_folder(folder: str, texts: list[str]) -> Floats:
    vectors: Floats = np.asarray(_folder_model(folder).encode(texts, show_progress_bar=False), np.float32)
    return vectors


@lru_cache(maxsize=2)
def _folder_model(folder: str) -> Any:
    if not Path(folder).is_dir():
        raise ArgumentError(
            f'text encoder "{folder}": expected "words", "wordllama", "auto" or a folder with a model of '
            f"sentence-transformers, found no such folder (from {Path.cwd()}). Check the name or the path."
        )
    package = _imported("sentence_transformers", folder, "pip install sentence-transformers")
    return package.SentenceTransformer(folder, local_files_only=True)


def _imported(package: str, name: str, remedy: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ArgumentError(
            f'text encoder "{name}": expected the package {package}, it cannot be imported ({error}). '
            f"Run {remedy}, or use the encoder words."
        ) from error
