"""What a log costs by its size: formulas over parts that were measured alone, checked, then on paper.

    python benchmarks/cost_model.py > docs/scale.md

The parts come from `cost_parts.py` and `large.py`, by files in `benchmarks/results/scale/`. Bytes are bytes, times are
seconds, `workers` are processes that train together.
"""

import json
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segue.config import Config, ModelConfig, TrainConfig
from segue.model.backend import leaves
from segue.model_file import build_network

RESULTS = Path(__file__).parent / "results"
GIB, MILLION = 2**30, 1_000_000
#: Updates in one call, and rows drawn for a call as a multiple of those of an update.
UPDATES, DRAWN = 16, 2
#: What a row of an item's table has in training: weights, running average, two moments.
TABLES = 4


class Job(NamedTuple):
    """What is learnt; `lanes` are those of one worker."""

    events: float
    items: float
    width: int = 128
    lanes: float = 128
    steps: int = 8
    negatives: int = 2048


class Cluster(NamedTuple):
    """Machines of one kind, with a worker for every two cores."""

    machines: int
    cores: int
    memory_gib: float
    network: float  # bytes a second, of one machine, in each direction

    @property
    def workers(self) -> int:
        return self.machines * self.cores // 2


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


class Parts(NamedTuple):
    """The measured parts, a file each."""

    data: Any
    items: Any
    updates: Any
    exchange: Any
    workers: Any
    index: Any

    @classmethod
    def measured(cls) -> "Parts":
        return cls(*(read(f"scale/{name}") for name in cls._fields[:-1]), read("index"))


# Data


def prepare_seconds(parts: Parts, events: float, cores: float) -> float:
    return parts.data["prepare"]["processor_seconds"] * events / parts.data["events"] / cores


def driver_seconds(parts: Parts, events: float) -> float:
    """Return how long the process that starts a training reads and encodes the log, on one core."""
    return growth(parts, "read_processor_seconds", "encode_processor_seconds") * events


def event_bytes(parts: Parts, *, hours: bool = True) -> float:
    """Return the memory of that process for each event, at most."""
    return growth(parts, "peak_gib", of="encode" if hours else "encode_without_hours") * GIB


def growth(parts: Parts, *names: str, of: str = "encode") -> float:
    """Return what an event more adds, of two sizes."""
    half, whole = parts.data[of]
    return sum(whole[name] - half[name] for name in names) / (whole["events"] - half["events"])


def counts_of_items(job: Job, buckets: int = 64) -> float:
    """Return how many pairs of a bucket and an item of it there are, if all items have equally many events."""
    return job.items * buckets * (1 - (1 - 1 / buckets) ** (job.events / job.items))


# An update


def call_seconds(parts: Parts, job: Job, cores: int) -> float:
    """Return the time of a call of a worker without others on one core or two: linear in lanes, by measured widths."""
    rows = parts.updates["one_core"]
    by_lanes = {row["lanes"]: row["call_ms"] for row in rows if row["width"] == 128}
    slope, fixed = np.polyfit(list(by_lanes), list(by_lanes.values()), 1)
    by_width = {row["width"]: row["call_ms"] for row in rows if row["lanes"] == 128}
    second = parts.updates["all_cores"]["call_ms"] / by_width[128] if cores > 1 else 1.0
    return float(fixed + slope * job.lanes) * second * by_width[job.width] / by_width[128] / 1e3


# The exchange


def rows_of_call(job: Job, workers: int) -> float:
    """Return how many rows a worker asks of all owners, see `segue.training.distributed.parts.room`."""
    most = 1 + job.lanes + UPDATES * job.lanes * job.steps + DRAWN * job.negatives
    return most if workers == 1 else workers * min(most, int(1.25 * most / workers) + 64)


def row_bytes(job: Job, workers: int) -> float:
    """Return the bytes that a worker sends in a call for rows of the item table: there, and back."""
    return 2 * rows_of_call(job, workers) * TABLES * 4 * (job.width + 1)


def dense_bytes(job: Job) -> float:
    """Return the bytes of all weights beside the item table."""
    config = Config(model=ModelConfig(width=job.width), train=TrainConfig(task="next"))
    return 4.0 * sum(weights.size for _, weights in leaves(build_network(config, items=1, longest_gap=1.0).init(0)))


def exchange_seconds(parts: Parts, job: Job, workers: int, network: float = np.inf) -> float:
    """Return the time of the exchanges of a call.

    Of more than 4 workers each waits for each peer as long as two processes with a core each did for each other.
    """
    if workers == 1:
        return 0.0
    among, total = workers if workers <= 4 else 2, 0.0
    for kind, sent in (("all-to-all", row_bytes(job, workers)), ("all-reduce", dense_bytes(job))):
        rows = [row for row in parts.exchange["rows"] if row["kind"] == kind and row["processes"] == among]
        small, large = min(rows, key=lambda row: row["bytes"]), max(rows, key=lambda row: row["bytes"])
        rate = min((large["bytes"] - small["bytes"]) / (large["seconds"] - small["seconds"]), network)
        times = 2 if kind == "all-to-all" else 1  # rows travel there and back
        total += times * small["seconds"] * (workers - 1) / (among - 1) + sent / rate
    return total


def pace(parts: Parts, job: Job, workers: int, cores: int, *, network: float = np.inf, crowd: float = 1.0) -> float:
    """Return the targets learnt a second by all workers; `crowd` processes share each core."""
    call = crowd * call_seconds(parts, job, cores) + exchange_seconds(parts, job, workers, network)
    return workers * UPDATES * job.lanes * job.steps / call


# Memory


def table_bytes(job: Job) -> float:
    return 4.0 * job.items * (job.width + 1)


def worker_bytes(job: Job, workers: int) -> float:
    """Return the memory of a worker beside its libraries: tables, the best average, ages of rows, counts of items."""
    return (TABLES + 2) * table_bytes(job) / workers + 16 * job.items / workers + 20 * job.items


def driver_bytes(parts: Parts, job: Job) -> float:
    """Return the memory of the process that starts a training: the log, or the weights and their file at the end."""
    return max(event_bytes(parts) * job.events, 2 * table_bytes(job)) + parts.items["bytes_of_an_id"] * job.items


# The page


def checks(parts: Parts) -> list[list[str]]:
    """Return predicted and measured events a second, and memory, of each number of processes."""
    found, rows = parts.workers, []
    base = None
    for row in found["rows"]:
        n, cores = row["processes"], parts.workers["cores"]
        job = Job(found["events"], found["items"], found["width"], found["batch_size"] / n)
        speed = pace(parts, job, n, max(1, cores // n), crowd=max(1, n / cores))
        measured = max(row["events_per_second"])
        memory, real = worker_bytes(job, n) / GIB, max(row["worker_peak_gib"])
        base = real - memory if base is None else base
        rows.append(
            [
                str(n),
                f"{speed:,.0f}",
                f"{measured:,.0f}",
                f"{speed / measured:.2f}",
                f"{memory + base:.2f}",
                f"{real:.2f}",
            ]
        )
    return rows


PAPER = Job(10e9, 100e6)
CLUSTER = Cluster(64, 16, 128.0, 1.25e9)


def on_paper(parts: Parts, job: Job, cluster: Cluster) -> list[list[str]]:
    """Return the steps of a training with hours, memory of the fullest machine, and what a machine sends."""
    n, each = cluster.workers, cluster.cores // 2
    raw = parts.data["prepared_bytes"] / parts.data["events"] * job.events
    counted = parts.items["bytes_of_a_count"] * counts_of_items(job)
    preparing = prepare_seconds(parts, job.events, cluster.machines * cluster.cores)
    index = parts.index["facts"]["seconds"] / parts.index["items"] / parts.index["width"]
    steps = [
        ["`segue prepare --engine ray`", preparing, counted, raw / cluster.machines],
        ["reading and encoding, in one process", driver_seconds(parts, job.events), driver_bytes(parts, job), 0.0],
    ]
    for lanes in (job.lanes, max(1, job.lanes / n)):
        worker = job._replace(lanes=lanes)
        seconds = job.events / pace(parts, worker, n, 2, network=cluster.network / each)
        calls = job.events / (n * UPDATES * lanes * job.steps)
        sent = each * calls * (row_bytes(worker, n) + 2 * dense_bytes(worker))
        name = f"an epoch with `train.batch_size={n * lanes:.0f}`"
        steps.append([name, seconds, each * worker_bytes(worker, n), sent])
    steps.append(["`segue index`, on one machine", index * job.items * job.width, table_bytes(job), 0.0])
    return [
        [name, f"{seconds / 3600:.2g}", f"{memory / GIB:,.0f}", f"{sent / GIB:,.0f}" if sent else ""]
        for name, seconds, memory, sent in steps
    ]


def limits(parts: Parts, job: Job, cluster: Cluster) -> list[list[str]]:
    """Return what stops a larger run, the first at the top: how far it reaches, beside what is wanted."""
    room, one = cluster.memory_gib * GIB, job._replace(items=1.0)
    counted = parts.items["bytes_of_a_count"] * counts_of_items(job)
    shared = cluster.cores / 2 * worker_bytes(one, cluster.workers)
    reach = [
        [
            "the log in the memory of the process that starts the training",
            room / event_bytes(parts),
            job.events,
            "events",
        ],
        ["positions of events are 32-bit numbers", 2.0**31, job.events, "events"],
        ["the model and its file in one process, at the end", room / (2 * table_bytes(one)), job.items, "items"],
        ["the item table in the memory of a server", room / table_bytes(one), job.items, "items"],
        ["ids of items in the memory of one process", room / parts.items["bytes_of_an_id"], job.items, "items"],
        [
            "counts of items of all buckets, in the process that prepares",
            job.items * room / counted,
            job.items,
            "items",
        ],
        ["tables and counts in the memory of the workers of a machine", room / shared, job.items, "items"],
    ]
    reach.sort(key=lambda row: row[1] / row[2])
    return [[what, f"{most / MILLION:,.0f} million {of}", f"{most / wanted:.2f}"] for what, most, wanted, of in reach]


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def said(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 100, break_on_hyphens=False, break_long_words=False)


def likeness() -> list[list[str]]:
    """Return what expansions keep of a log."""
    columns = ("copies_of_users", "copies_of_items", "events", "items", "slope_of_tail", "hits", "popular")
    return [[f"{row[name]:,}" for name in columns] for row in read("scale/likeness")["logs"]]


def for_a_million(parts: Parts) -> list[list[str]]:
    """Return processor seconds for a million events of each step, and the bytes of an event after it."""
    data, events = parts.data, parts.data["events"]
    once = MILLION / events
    return [
        [
            "`segue datasets expand`",
            f"{once * data['expand']['processor_seconds']:.2f}",
            f"{data['log_bytes'] / events:.1f}",
        ],
        [
            "`segue prepare`",
            f"{once * data['prepare']['processor_seconds']:.2f}",
            f"{data['prepared_bytes'] / events:.1f}",
        ],
        ["reading", f"{MILLION * growth(parts, 'read_processor_seconds'):.2f}", ""],
        ["encoding, up to the first update", f"{MILLION * growth(parts, 'encode_processor_seconds'):.2f}", ""],
    ]


def calls(parts: Parts) -> list[list[str]]:
    """Return the calls of a worker without others."""
    rows = [[row["width"], row["lanes"], row["call_ms"]] for row in parts.updates["one_core"]]
    return [[f"{w}", f"{n}", f"{ms:,.0f}", f"{1e3 * UPDATES * 8 * n / ms:,.0f}"] for w, n, ms in rows]


def exchanged(parts: Parts) -> list[list[str]]:
    """Return the times of exchanges."""
    rows = [row for row in parts.exchange["rows"] if row["bytes"] != 2**20]
    return [[r["kind"], f"{r['processes']}", f"{r['bytes'] / 2**20:.2f}", f"{1e3 * r['seconds']:.1f}"] for r in rows]


def page(parts: Parts) -> str:
    """Return the page `docs/scale.md`."""
    data, large, found, index, job, n = parts.data, read("large"), parts.workers, parts.index, PAPER, CLUSTER.workers
    train, expanding, larger = large["train"], large["expand"], read("scale/large-200")
    sections = [
        "# Scale",
        said(f"""Know what a large log costs before you rent machines. The parts are measured on a machine of
            {data["cores"]} cores with other work; their sum is checked with 1, 2 and 4 processes; then the same
            formulas say what a cluster would need. `benchmarks/cost_model.py` holds the formulas and prints this page,
            `benchmarks/cost_parts.py` and `benchmarks/large.py` measure ({data["date"]})."""),
        "## A large log without a download",
        said("""`segue datasets expand` makes a log of any size out of a real log. Lengths of histories, gaps and
            repeats stay exactly. The tail of the counts of items, and how well counted pairs of items find the last
            event of each user, stay nearly. Accuracy on such a log says nothing about the real log, because copies of a
            user share pairs of items. Copies act within an hour of each other, too, so that the log seems to drift:
            `model.trends=off` spares what follows trends."""),
        table(["users x", "items x", "events", "items", "slope of the tail", "found by pairs", "by the most frequent"],
              likeness()),
        said(f"""{large["source"]} as {large["events"]:,} events: expanding took {expanding["processor_seconds"]:.0f}
            processor seconds and {expanding["peak_memory_gib"]:.1f} GiB ({larger["events"]:,} events:
            {larger["expand"]["processor_seconds"]:.0f} and {larger["expand"]["peak_memory_gib"]:.1f}), training with a
            budget of {large["minutes_of_training"]:g} minute {train["processor_seconds"]:.0f} processor seconds and
            {train["peak_memory_gib"]:.1f} GiB, with `{" ".join(large["options"])}`. Other work ran: the minute was
            over after one call of updates."""),
        "## The parts",
        table(["step", "processor seconds for a million events", "bytes of an event after it"], for_a_million(parts)),
        said(f"""The process that starts a training holds {event_bytes(parts):.0f} bytes for each event, and
            {event_bytes(parts, hours=False):.0f} where hour and day are not read (`--kind time=ignored`). A vocabulary
            takes {parts.items["bytes_of_an_id"]} bytes for each id, the counts of the items of each bucket
            {parts.items["bytes_of_a_count"]}. An index of {index["items"]:,} items of width {index["width"]} is built
            in {index["facts"]["seconds"]:.0f} s and finds a list in {index["approximate"]["p50_ms"]:.1f} ms, the exact
            search in {index["exact_one_thread"]["p50_ms"]:.0f} ms on one core."""),
        said(f"""A call of {UPDATES} updates of one worker on one core, with 2,048 drawn items for each update and the
            worker's own rows of the item table. On {data["cores"]} cores the call of width 128 and batch size 128 takes
            {parts.updates["all_cores"]["call_ms"]:,.0f} ms."""),
        table(["width", "batch size", "ms", "events/s"], calls(parts)),
        said("An exchange between processes of this machine, by gloo."),
        table(["exchange", "processes", "MiB of each", "ms"], exchanged(parts)),
        "## The check",
        said(f"""`segue train --workers N` on {found["events"]:,} events and {found["items"]:,} items, width
            {found["width"]}, with a batch size of {found["batch_size"]} that all workers share, on {found["cores"]}
            cores: 2 processes have a core each, 4 share two. Predicted is the sum of the parts; the memory of the
            libraries is that of the run with one process."""),
        table(["processes", "events/s predicted", "measured", "ratio", "GiB of a worker predicted", "measured"],
              checks(parts)),
        "## On paper: 10 billion events, 100 million items",
        said(f"""{CLUSTER.machines} machines of {CLUSTER.cores} cores, {CLUSTER.memory_gib:.0f} GiB and 10 Gbit/s, width
            {job.width}, a worker for every two cores: {n}. Nothing here was measured on a cluster. Each worker is
            assumed to work at the pace measured here, the network to give its full rate to the workers of a machine
            together, and waiting to grow by the number of workers."""),
        table(["step", "hours", "GiB of the fullest machine", "GiB sent by each machine"],
              on_paper(parts, job, CLUSTER)),
        said(f"""Give each worker a batch size of 128 by `train.batch_size`. The batch size that is chosen
            for one process leaves 1 for each of {n}, and drawn items then take most of an update. How well such large
            batches learn was not measured. With 128 a worker asks for {rows_of_call(job, n):,.0f} rows in a call
            and sends {row_bytes(job, n) / 2**20:.0f} MiB for them; all other weights are
            {dense_bytes(job) / 2**20:.1f} MiB. Four epochs are chosen for such a log (`train.epochs`)."""),
        "## What breaks first",
        said("""How far each part reaches on one such machine, and its share of 10 billion events or 100 million items.
            Below 1 the part stops the run; the first stands at the top."""),
        table(["part", "reaches", "share"], limits(parts, job, CLUSTER)),
        said("""So updates and their exchange scale; what one process does alone does not. First each worker has to read
            the buckets of its own users, and the counts of items have to be merged bucket by bucket. Then each worker
            has to write its own rows of the model, and servers have to share the rows out."""),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    print(page(Parts.measured()), end="")
