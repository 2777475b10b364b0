"""Model files that are damaged or crafted, and what is asked of those that load.

A file begins as a whole model. Then bytes are turned, or its parts are changed and its digests made anew, so that the
damage is found by what it says and not by a sum. One seed is one file.
"""

import contextlib
import copy
import hashlib
import io
import json
import struct
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import save

import segue
from segue.errors import SegueError
from segue.files import read_arrays
from segue.recommend.batch import observe_each, observe_long, score_each, state_from_bytes, state_to_bytes
from segue.recommend.plan import Beam, Sample
from segue.store.events import Event
from tests_support import ITEMS, described_log, described_recommender, small_rater, small_recommender

NUMBERS = [0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, -(2**31), 10**12, 2**62, -(2**63), 10**30, 0.5, -0.0, 1e-45, 1e38]
NUMBERS += [1e308, float("nan"), float("inf"), float("-inf")]
OTHERS = [None, True, "", "x", "\x00", [], {}, [1], {"a": 1}, "1e9", [[[[]]]], [None] * 3, "ä" * 3000]
DTYPES = ["F32", "F64", "F16", "BF16", "I64", "I32", "U8", "I8", "BOOL", "U64", "F8_E4M3", "C64", "Q9"]
KINDS = [np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_, np.uint64]


def whole_files(folder):
    """Write models of every kind, and return their paths."""
    described = described_recommender(described_log())
    new = pl.concat([ITEMS, ITEMS.tail(2).with_columns(pl.Series("item", ["n1", "n2"]))])
    made = {
        "linear": small_recommender(),
        "gru": small_recommender(cell="gru", repeats="exclude"),
        "lstm": small_recommender(cell="lstm", clock=False),
        "rnn": described_recommender(described_log(), cell="simple_rnn", session=3600.0),
        "described": described,
        "grown": described.add_items(new),
        "rater": small_rater(),
        "ordinal": small_rater(loss="ordinal", task="rating"),
        "measured": small_rater(levels=(0.0, 9.5)),
    }
    paths = []
    for name, rec in made.items():
        paths.append(Path(folder) / f"{name}.segue")
        rec.save(paths[-1])
    return paths


class Parts:
    """The parts of a model file, to be changed and written."""

    def __init__(self, path):
        arrays, metadata = read_arrays(path)
        self.arrays, self.manifest = dict(arrays), json.loads(metadata["segue"])

    def bytes(self, *, digests=True):
        if digests:
            self.manifest["digests"] = {name: digest_of(array) for name, array in sorted(self.arrays.items())}
        text = json.dumps(self.manifest, sort_keys=True)
        return save(
            {name: np.array(array, order="C") for name, array in self.arrays.items()},
            {"segue": text, "digest": hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()},
        )


def digest_of(array):
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def damaged(whole, seed):
    """Return the bytes of a damaged file: of one of some whole ones, as a seed says."""
    draw = np.random.default_rng(seed)
    parts = copy.deepcopy(whole[int(draw.integers(len(whole)))])
    way = WAYS[int(draw.integers(len(WAYS)))]
    for _ in range(int(draw.choice([1, 1, 1, 2, 3]))):
        with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError, pl.exceptions.PolarsError):
            found = way(parts, draw)  # what was damaged once may not be what can be damaged again
            if found is not None:
                return found
    return parts.bytes(digests=draw.random() < 0.97)


def one(draw, several):
    return several[int(draw.integers(len(several)))]


def turned_bytes(parts, draw):
    data = bytearray(parts.bytes())
    for _ in range(int(draw.integers(1, 6))):
        head = struct.unpack_from("<Q", data)[0] + 8
        at = int(draw.integers(min(head, len(data)) if draw.random() < 0.7 else len(data)))
        data[at] = int(draw.choice([0, 1, 34, 91, 123, 127, 255, int(draw.integers(256))]))
    return bytes(data)


def cut_or_longer(parts, draw):
    data = parts.bytes()
    if draw.random() < 0.5:
        return data[: int(draw.integers(len(data)))]
    return data + bytes(int(draw.integers(1, 4096)))


def other_header(parts, draw):
    """Change what the header of the file says of an array."""
    data = parts.bytes()
    size = struct.unpack_from("<Q", data)[0]
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    name = one(draw, [name for name in header if name != "__metadata__"])
    entry, what = header[name], int(draw.integers(7))
    if what == 0:
        entry["dtype"] = one(draw, DTYPES)
    elif what == 1:
        entry["shape"] = [one(draw, [0, 1, 2, 2**40, 2**62, -1, 1.5, "2"]) for _ in range(int(draw.integers(5)))]
    elif what == 2:
        begin, end = entry["data_offsets"]
        entry["data_offsets"] = [begin + int(draw.choice([-4, 0, 4, 2**40])), end + int(draw.choice([-4, 0, 4, 2**40]))]
    elif what == 3:
        del header[name]
    elif what == 4:
        header[one(draw, ["x", "weights.x", "counts.x", "encoding.items"])] = header.pop(name)
    elif what == 5:
        entry["shape"] = [*entry["shape"], 0] if draw.random() < 0.5 else entry["shape"][::-1]
    else:
        header["__metadata__"] = one(draw, [{}, {"segue": "{}"}, {"segue": "[" * 9999}, {"segue": 7}, [], "x"])
    head = json.dumps(header).encode()
    length = int(draw.choice([len(head)] * 9 + [0, 2**40, len(head) + 9]))
    return struct.pack("<Q", length) + head + body


def other_values(parts, draw):
    """Change numbers of an array, to some that nobody learns."""
    name = one(draw, [name for name in parts.arrays if parts.arrays[name].dtype != np.uint8])
    array = parts.arrays[name] = parts.arrays[name].copy()
    flat = array.reshape(-1)
    for _ in range(int(draw.integers(1, 4))):
        begin = int(draw.integers(max(flat.size, 1)))
        some = slice(begin, begin + int(draw.choice([1, 1, 1, 5, flat.size])))
        with np.errstate(all="ignore"):
            if draw.random() < 0.3:
                flat[some] = -flat[some]
            elif draw.random() < 0.2:
                draw.shuffle(flat[some])
            elif array.dtype.kind == "f":
                flat[some] = np.float64(float(one(draw, [n for n in NUMBERS if abs(n) < 1e300 or n != n] + [np.inf])))
            else:
                lowest, highest = np.iinfo(array.dtype).min, np.iinfo(array.dtype).max
                flat[some] = int(
                    np.clip(int(one(draw, [-1, 0, 1, 12, 13, 14, 10**6, 2**31 - 1, 2**62, -(2**62)])), lowest, highest)
                )


def other_shape(parts, draw):
    """Change the shape or the type of an array."""
    name = one(draw, list(parts.arrays))
    array, what = parts.arrays[name], int(draw.integers(7))
    with np.errstate(all="ignore"):
        if what == 0 and array.ndim:
            array = array[: int(draw.integers(len(array) + 1))]
        elif what == 1 and array.ndim:
            array = np.concatenate([array, array[: int(draw.integers(1, len(array) + 1))]])
        elif what == 2:
            array = array.T
        elif what == 3:
            array = array.reshape(-1) if draw.random() < 0.5 else array[None]
        elif what == 4:
            array = array.astype(one(draw, KINDS))
        elif what == 5:
            array = np.zeros(one(draw, [(0,), (0, 3), (3, 0), (1,), ()]), array.dtype)
        else:
            array = parts.arrays[one(draw, list(parts.arrays))]
    parts.arrays[name] = array


def other_names(parts, draw):
    """Leave an array out, give it another name, or add one."""
    name, what = one(draw, list(parts.arrays)), int(draw.integers(3))
    if what == 0:
        del parts.arrays[name]
    elif what == 1:
        parts.arrays[one(draw, list(parts.arrays))] = parts.arrays.pop(name)
    else:
        new = one(
            draw,
            [
                "weights.x",
                "counts.habit",
                "counts.x",
                "encoding.items",
                "encoding.users",
                "catalogue",
                "weights.rating.cuts",
            ],
        )
        parts.arrays[new] = parts.arrays[name]


def changed(node, draw):
    """Return JSON with something changed somewhere."""
    if isinstance(node, dict | list) and node and draw.random() < 0.85:
        node = node.copy()
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key, what = one(draw, keys), draw.random()
        if what < 0.08:
            del node[key]
        elif what < 0.12 and isinstance(node, list):
            node.insert(key, one(draw, [*node, *OTHERS]))
        elif what < 0.12:
            node[one(draw, ["x", "learnt", "cell", "scale", "asked", "range"])] = one(draw, [*OTHERS, *NUMBERS])
        else:
            node[key] = changed(node[key], draw)
        return node
    if isinstance(node, bool) and draw.random() < 0.6:
        return not node
    if isinstance(node, int | float) and draw.random() < 0.3:
        return node + one(draw, [1, -1, 0.5, 100])
    if draw.random() < 0.02:
        deep = []
        for _ in range(900):
            deep = [deep]
        return deep
    return one(draw, [*NUMBERS, *OTHERS])


def other_manifest(parts, draw):
    part = one(draw, ["config", "config", "facts", "ratings", None, None])
    if part is None or not parts.manifest.get(part):
        parts.manifest = changed(parts.manifest, draw)
    else:
        parts.manifest[part] = changed(parts.manifest[part], draw)
    if not isinstance(parts.manifest, dict):
        parts.manifest = {"format": parts.manifest}


def other_size(parts, draw):
    """Ask for more than there is."""
    config, size = parts.manifest["config"], one(draw, [0, 1, 3, 9, 16, 10**6, 10**9, 10**12, 2**63, 10**40])
    name = one(draw, ["items", "learnt", "asked", "width", "depth", "expand", "both"])
    if name in ("items", "learnt", "asked"):
        parts.manifest[name] = size
    elif name == "both":
        parts.manifest["items"] = parts.manifest["learnt"] = size
    else:
        config["experiment" if name == "expand" else "model"][name] = size


def other_encoding(parts, draw):
    names = [name for name in parts.arrays if name.startswith("encoding.")]
    if not names:
        return other_manifest(parts, draw)
    name = one(draw, names)
    text = json.dumps(changed(json.loads(parts.arrays[name].tobytes()), draw), ensure_ascii=draw.random() < 0.1)
    parts.arrays[name] = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    return None


def table_bytes(parts, draw):
    """Change the bytes of a table, most often those that say how much there is."""
    name = one(draw, [name for name in ("vocabulary", "catalogue") if name in parts.arrays])
    data = bytearray(parts.arrays[name].tobytes())
    for _ in range(int(draw.choice([1, 1, 2, 4]))):
        wide = int(draw.choice([1, 4, 8]))
        near = min(len(data), 1500) if draw.random() < 0.6 else len(data)
        at = max(0, len(data) - int(draw.integers(wide, near + 1)))
        number = int(one(draw, [0, 1, -1, 2**31 - 1, 2**40, 2**62, -(2**63), len(data), int(draw.integers(1000))]))
        data[at : at + wide] = struct.pack("<q", number)[:wide]
    if draw.random() < 0.05:
        del data[int(draw.integers(len(data))) :]
    parts.arrays[name] = np.frombuffer(bytes(data), np.uint8)


def other_table(parts, draw):
    """Put another table in the place of one."""
    name = one(draw, [name for name in ("vocabulary", "catalogue") if name in parts.arrays])
    table = pl.read_ipc(io.BytesIO(parts.arrays[name].tobytes()))
    column, height = one(draw, table.columns), table.height
    ways = [
        lambda: table.head(height - 1),
        lambda: pl.concat([table, table.tail(1)]),
        lambda: table.drop(column),
        lambda: table.with_columns(pl.lit(None).alias(column)),
        lambda: table.with_columns(pl.lit("same").alias(column)),
        lambda: table.with_columns(pl.Series(column, range(height))),
        lambda: table.with_columns(pl.col(column).cast(pl.Categorical)) if table[column].dtype == pl.String else table,
        lambda: table.with_columns(pl.Series("moment", [2**30] * height, pl.Date)),
        lambda: table.with_columns(pl.Series("price", [2**62] * height, pl.Int64).cast(pl.Datetime("ms"))),
        lambda: table.with_columns(pl.Series("kind", [[[b"\xff"]]] * height)),
        lambda: table.reverse(),
        lambda: pl.DataFrame({"id": pl.Series([None], dtype=pl.Null)}).select(pl.col("id").repeat_by(10**6).explode()),
        lambda: pl.DataFrame(),
    ]
    buffer = io.BytesIO()
    one(draw, ways)().write_ipc(buffer, compression=one(draw, ["uncompressed", "uncompressed", "zstd", "lz4"]))
    parts.arrays[name] = np.frombuffer(buffer.getvalue(), np.uint8)


def other_pairs(parts, draw):
    """Lead the loops in C out of their arrays."""
    if "counts.rows" not in parts.arrays:
        return other_values(parts, draw)
    name = one(draw, [name for name in parts.arrays if name.startswith("counts.")])
    array = parts.arrays[name].copy()
    far = one(draw, [-1, 10**6, 2**31 - 1, -(2**31), len(parts.arrays["counts.popularity"]), 1])
    if array.ndim and array.dtype.kind == "i":
        array[int(draw.integers(len(array)))] = far
    elif array.ndim and draw.random() < 0.5:
        array = array[:-1]
    else:
        array = np.asarray(array * array.dtype.type(one(draw, [-1, 0, 2])), array.dtype)
    parts.arrays[name] = array
    return None


WAYS = [turned_bytes, cut_or_longer, other_header, other_values, other_values, other_shape, other_names, other_manifest]
WAYS += [
    other_manifest,
    other_size,
    other_encoding,
    other_encoding,
    table_bytes,
    table_bytes,
    other_table,
    other_pairs,
    other_pairs,
]


def answers(rec):
    """Ask a model that was loaded for all that it answers; an error of Segue's own is an answer."""
    ids = [*rec.items[:3], "nobody has seen this"]
    said = []

    def ask(function, *given, **named):
        try:
            said.append(function(*given, **named))
        except SegueError as error:
            said.append(error)

    with np.errstate(all="ignore"):
        state = rec.start()
        for number, item in enumerate(ids):
            state = rec.observe(state, item, time=1_700_000_000 + 60 * number, type="view", context={"device": "tv"})
        happened = [
            Event("u", item, 1_700_000_000_000_000 + n, type="buy", context={"device": "pc"})
            for n, item in enumerate(ids)
        ]
        states = observe_each(rec, [state] * len(happened), happened)
        ask(observe_long, rec, state, happened)
        ask(score_each, rec, states, [None] * len(states))
        ask(lambda: rec.recommend(state_from_bytes(rec, state_to_bytes(states[0])), 5, at=1_700_009_000))
        ask(rec.recommend, state, 5, repeats="exclude", exclude=ids[:1])
        ask(lambda: rec.recommend(rec.start({"age": 30}), 3))
        ask(rec.score, state, at=1_700_009_000)
        ask(rec.predict_rating, state, ids[0])
        ask(rec.rating_distribution, state, ids[0], at=1_700_009_000)
        ask(rec.rated, state, ids[0], 3.0)
        ask(rec.similar, ids[0], 4, mix=0.3)
        ask(rec.plan, state, 3, by=Beam(2))
        ask(rec.plan, state, 2, by=Sample(1.0), at=1_700_009_000, every=60)
        ask(lambda: (rec.labels(ids[0]), rec.title(ids[0]), rec.learnt_until))
        log = described_log()
        ask(lambda: rec.score(rec.encode(log)))
        ask(lambda: rec.add_items(ITEMS.with_columns("new-" + pl.col("item"))).recommend(rec.start(), 3))
    return said


def outcome(path):
    """Return in a word what became of a file: "refused", "answered", or the fault."""
    try:
        rec = segue.load(path)
    except segue.errors.ModelError:
        return "refused"
    answers(rec)
    return "answered"
