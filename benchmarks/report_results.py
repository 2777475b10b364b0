"""Print the page of results from the files in `benchmarks/results`.

    python benchmarks/report_results.py > docs/results.md

A table for each claim: accuracy, speed, serving, faults. A number that is in no file is not on the page, and a file
that no table shows ends the script with its name.
"""

import json
import re
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from segue.config import OLD_NAMES

RESULTS = Path(__file__).parent / "results"
#: The runs of each table of accuracy with the defaults of today: what is said of the log, and a run for each seed.
DEFAULTS = {
    "ml-1m, protocol A (SASRec's file)": ("quality/ml-1m-a", "quality/ml-1m-a-1", "quality/ml-1m-a-2"),
    "ml-1m, protocol C (LRURec's file)": ("quality/ml-1m-c",),
    "ml-1m with exact times": ("quality/ml-1m-times-hour-and-day",),
    "ml-1m with exact times, last tenth in time": ("quality/ml-1m-time",),
    "ml-100k": ("quality/ml-100k-0", "quality/ml-100k-1", "quality/ml-100k-2"),
    "Beauty 5-core": ("quality/beauty",),
    "Beauty, last tenth in time": ("quality/beauty-time",),
    "yoochoose 1/64, its own test sessions": ("quality/yoochoose",),
    "groceries (The Complete Journey, ten weeks)": ("quality/groceries",),
}
#: Words of the files of which the page uses others.
WORDS = {
    "what was had is compared with, too": "seen items as negatives, too",
    "tell one event, with a list": "one event with a list",
    "running biases": "moving biases",
    "no hidden items": "no item dropout",
    "not compared with had (train.compare_had=false)": "seen items no negatives",
    "compared with had (derived)": "seen items as negatives (derived)",
}
#: Moments at which projects are compared.
SECONDS = (36, 60, 84, 145, 180, 300, 420)
shown: set[str] = set()


def read(name: str) -> Any:
    """Return what a file holds, and note that the page shows it."""
    shown.add(name)
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def names(pattern: str) -> list[str]:
    """Return the files that a pattern names, in order."""
    return sorted(path.relative_to(RESULTS).with_suffix("").as_posix() for path in RESULTS.glob(pattern + ".json"))


def share(value: Any, digits: int = 4) -> str:
    """Return a number below 1 as tables write it: .2175."""
    if not isinstance(value, int | float):
        return ""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def number(value: Any, digits: int = 0) -> str:
    """Return a number with its thousands parted; nothing where there is none."""
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else ""


def improvement(run: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the improvement over the best baseline; older runs named it "lead"."""
    return run["improvement"] if "improvement" in run else run["lead"]


def interval(difference: Mapping[str, Any] | None, digits: int = 4) -> str:
    """Return an improvement with its 95 % confidence interval."""
    if not difference:
        return ""
    low, high = (f"{difference[key]:+.{digits}f}" for key in ("low", "high"))
    return f"{difference['mean']:+.{digits}f} ({low} to {high})"


def worded(text: str) -> str:
    """Return a text of a file in the words of the page."""
    for old, new in WORDS.items():
        text = text.replace(old, new)
    return re.sub(r"\bpass(es)?\b", lambda old: "epochs" if old[1] else "epoch", text)


def of_settings(settings: Any) -> str:
    """Return settings as a cell of a table, by their names of today."""
    pairs = settings.items() if isinstance(settings, Mapping) else (text.partition("=")[::2] for text in settings)
    return ", ".join(f"`{OLD_NAMES.get(key, key)}={value}`" for key, value in pairs)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table and an empty one."""
    head = list(head)
    return [" | ".join(["", *line, ""]).strip() for line in (head, ["---"] * len(head), *map(list, rows))] + [""]


def said(text: str) -> list[str]:
    """Return a paragraph, wrapped, and an empty line."""
    return [*textwrap.wrap(text, 100, break_on_hyphens=False, break_long_words=False), ""]


def section(title: str, text: str, *parts: list[str], again: str = "") -> list[str]:
    """Return a section: what it says, its tables, and the command that measures it again."""
    lines = [f"### {title}", "", *said(text), *(line for part in parts for line in part)]
    return [*lines, f"Run again: `{again}`", ""] if again else lines


def best_baseline(run: Mapping[str, Any], metric: str = "ndcg@10") -> tuple[str, float]:
    """Return the name of the best baseline of a run and its score."""
    found = {name.partition(" (")[0]: each[metric] for name, each in run["models"].items() if name != "segue"}
    best = max(found, key=lambda name: found[name])
    return best, found[best]


def quality() -> list[str]:
    """Return the table of accuracy with the defaults."""
    rows = []
    for log, files in DEFAULTS.items():
        runs = [read(name) for name in files]
        mean = {key: statistics.fmean(run["models"]["segue"][key] for run in runs) for key in ("hr@10", "ndcg@10")}
        alone = statistics.fmean(run["network_alone"]["ndcg@10"] for run in runs)
        timed = [run["asked_at_the_time_of_the_event"] for run in runs if run["asked_at_the_time_of_the_event"]]
        at = share(statistics.fmean(each["ndcg@10"] for each in timed)) if timed else ""
        name, score = best_baseline(runs[0])
        seconds = [f(run["training_seconds"] for run in runs) for f in (min, max)]
        rows.append(
            [
                log,
                ", ".join(str(run["seed"]) for run in runs),
                f"**{share(mean['hr@10'])}**",
                f"**{share(mean['ndcg@10'])}**",
                share(alone),
                at,
                f"{name} {share(score)}",
                "<br>".join(interval(improvement(run)) for run in runs),
                share(runs[0]["history_shuffled"]),
                " to ".join(dict.fromkeys(f"{s / 60:.0f}" for s in sorted(seconds))),
                ", ".join(dict.fromkeys(run["date"] for run in runs)),
            ]
        )
    head = ["log", "seeds", "HR@10", "NDCG@10", "network alone", "at the time of the event", "best baseline"]
    head += ["improvement, 95 % interval, by seed", "history shuffled", "training, minutes", "date"]
    return section(
        "Next item, default settings",
        "The last event of each user is the test, and the one before it validation, unless the table says otherwise. "
        "Neither is learnt. All items are ranked; seen items are left out where lists leave them out; ties count "
        "against the model. Baselines are tuned (popularity, own popularity, decayed Markov counts, item-kNN). *At the "
        "time of the event*: the model knows when the event came. *History shuffled*: the same model reads each "
        "history in another order; a log whose order means nothing would lose nothing. Machine: x86_64, 2 cores, other "
        "work beside it, so minutes are upper bounds.",
        table(head, rows),
        again="python benchmarks/quality.py --data DIR --queue FOLDER",
    )


def variants() -> list[str]:
    """Return the table of runs with other settings, or by earlier versions."""
    known = {name for files in DEFAULTS.values() for name in files}
    rows = []
    for name in [*names("quality/*"), *names("ml-1m*"), *names("ml-100k-seed*")]:
        if name in known:
            continue
        run = read(name)
        model, alone = run["models"]["segue"], run.get("network_alone") or {}
        rows.append(
            [
                f"`{name}`",
                str(run["seed"]),
                of_settings(run["settings"]),
                share(model["hr@10"]),
                share(model["ndcg@10"]),
                share(alone.get("ndcg@10")),
                interval(improvement(run)),
                run["date"],
            ]
        )
    head = ["run", "seed", "settings", "HR@10", "NDCG@10", "network alone", "improvement, 95 % interval", "date"]
    return section(
        "Next item, other settings and earlier versions",
        "The name of a run says what differs: `normed` has norms in its blocks, `compared-with-had` compares targets "
        "with seen items, `rate-.002` has that learning rate, `best-weight` blends with the best weight in place of "
        "the least within a standard error. The [lab notes](lab-notes/index.md) tell more.",
        table(head, rows),
    )


def peers() -> list[str]:
    """Return the table of other projects on the same machine."""
    rows = []
    for name in [*names("side-by-side-*"), *names("peer-*")]:
        if name.endswith("-speed"):
            continue
        run = read(name)
        best = run.get("best_in_validation") or {}
        scores = [share(best.get(part, {}).get("ndcg@10")) for part in ("validation", "test")]
        hits = share(best.get("test", {}).get("hr@10"))
        rows.append(
            [
                run["peer"].replace("_", " "),
                run["set"],
                number(best.get("seconds")),
                *scores,
                hits,
                number(run.get("events_per_second")),
                f"`{name}`",
                run["date"],
            ]
        )
    rows.sort(key=lambda row: (row[1], row[0]))
    curves = []
    for name in names("side-by-side-*"):
        run = read(name)
        found = [[p["validation"]["ndcg@10"] for p in run["curve"] if p["seconds"] < second + 2] for second in SECONDS]
        curves.append(
            [run["peer"].replace("_", " "), run["set"], *(share(max(each, default=None), 3) for each in found)]
        )
    curves.sort(key=lambda row: (row[1], row[0]))
    head = [
        "project",
        "log",
        "seconds at its best",
        "validation NDCG@10",
        "test NDCG@10",
        "test HR@10",
        "targets a second",
    ]
    return section(
        "Beside other projects, on one machine",
        "Each was trained on the same log, and measured by the same questions, by papers' rule. A row shows the moment "
        "at which its own validation was best. Segue ran with `size=small` and a time budget, compiling included, "
        "and blended at the end. Settings and the whole curves are in the files. Machine: x86_64, 2 cores, seed 0.",
        table([*head, "file", "date"], rows),
        said("The best validation NDCG@10 within so many seconds; the last number of Segue is blended."),
        table(["project", "log", *(f"{second} s" for second in SECONDS)], curves),
        again="python benchmarks/peers/run.py --data DIR --peer segue:1.4 --peer gru4rec:7 --out FOLDER",
    )


def beyond_ids() -> list[str]:
    """Return the tables of items, users and events that are more than ids."""
    warm, new, fresh = [], [], []
    for name in [*names("beyond-ids-*"), *names("new-items-*"), *names("sessions-*"), "pieces-of-lives-ml-1m"]:
        kept = read(name)
        runs = kept["runs"] if "runs" in kept else {key: kept[key] for key in ("warm", "users")}
        for which, run in runs.items():
            run = {"date": kept.get("date", "")} | run
            what, _, read_columns = which.partition(" ")
            columns = {"details": "event features", "all": "all columns", "items": "items' columns", "": "ids"}.get(
                read_columns, read_columns
            )
            columns += f", {of_settings(kept['settings'])}" if kept.get("settings") else ""
            if what == "users":
                fresh += fresh_users(name, columns, run)
                continue
            model = run["models"]["segue"]
            scores = [share(model["hr@10"]), share(model["ndcg@10"])]
            if what == "items":
                rival = next((m for n, m in run["models"].items() if n.startswith("content-kNN")), {})
                beside = [share(rival.get("hr@10")), share(rival.get("ndcg@10")), share(run["chance_hr@10"])]
                new.append([f"`{name}`", columns, *scores, *beside, run["date"]])
            else:
                warm.append(
                    [
                        f"`{name}`",
                        columns,
                        share(run["validation"]),
                        *scores,
                        number(run["events_per_second"]),
                        run["date"],
                    ]
                )
    scores = ["HR@10", "NDCG@10"]
    return section(
        "More than ids",
        "Known users and items; each row reads other columns besides ids.",
        table(["run", "reads", "validation NDCG@10", *scores, "events a second", "date"], warm),
        said(
            "New items: a tenth of the items is held out of training and added by its attributes. All items are ranked."
        ),
        table(["run", "reads", *scores, *(f"content-kNN {name}" for name in scores), "chance HR@10", "date"], new),
        said(
            "New users: a tenth of the users is held out. *First n*: the event after their first n. *Last n*: their "
            "last event, from the n events before it alone. NDCG@10."
        ),
        table(["run", "reads", "question", "0", "1", "2", "5", "10", "all", "date"], fresh),
        again="python benchmarks/beyond_ids.py --set ml-100k --out FILE",
    )


def fresh_users(name: str, columns: str, run: Mapping[str, Any]) -> list[list[str]]:
    """Return two rows about new users: their first events, and their last from few."""
    rows = []
    for question in ("first", "last"):
        scores = {str(each["events"]): share(each["models"]["segue"]["ndcg@10"]) for each in run[question]}
        cells = [scores.pop(n, "") for n in ("0", "1", "2", "5", "10")]
        rows.append([f"`{name}`", columns, f"{question} n", *cells, next(iter(scores.values()), ""), run["date"]])
    return rows


def agreement() -> list[str]:
    """Return the table of the metrics beside other libraries."""
    run, rows = read("metrics-agreement"), {}
    for row in run["metrics"]:
        rows.setdefault((row["metric"].partition("@")[0], row["beside"]), []).append(row)
    lines = [
        [
            name,
            ", ".join(row["metric"].partition("@")[2] for row in several if "@" in row["metric"]),
            f"{beside} {run['versions'][beside]}",
            number(sum(row["values"] for row in several)),
            f"{max(row['difference'] for row in several):.0e}",
            run["date"],
        ]
        for (name, beside), several in rows.items()
    ]
    return section(
        "Metrics beside other libraries",
        "Each metric on random data, query by query: lists of 1 to 30 items with 1 to 33 targets, scores with ties.",
        table(["metric", "at k", "beside", "values compared", "largest difference", "date"], lines),
        again="python benchmarks/metrics.py",
    )


def _trends_of(run: Mapping[str, Any]) -> str:
    """Return whether a model follows the trends, and what that gains."""
    if not run.get("gain"):
        return "found no drift in its log, so its items are frozen at the cut."
    twice = "stands twice: as it is served, following the trends, and frozen."
    return f"{twice} Improvement over the frozen model: {interval(run['gain'])}."


def streams() -> list[str]:
    """Return the tables of models on a stream beside baselines that learn online."""
    lines = []
    for name in names("stream-*"):
        run = read(name)
        rows = []
        for model, row in run["models"].items():
            title = {"segue_frozen": "segue, frozen"}.get(model, model.partition(" (")[0])
            ages = {each["name"]: share(each["models"][model]["ndcg@10"]) for each in run["by_age"] if each["queries"]}
            cells = [share(row[metric]) for metric in ("hr@10", "ndcg@10", "mrr@10")]
            rows.append([title, *cells, ages["trained"], ages.get("new, all", "")])
        lines += section(
            f"A stream: {run['set']}",
            f"{run['queries']:,} events after {run['training_events']:,} of training, in the order of time; each is "
            "ranked from all strictly earlier events, then learnt. The model, trained with "
            f"{of_settings(run['settings'])}, {_trends_of(run)} "
            f"Improvement in NDCG@10 over {run['improvement']['over'].partition(' (')[0]}: "
            f"{interval(run['improvement'])}. {run['date']}, {run['machine']}.",
            table(
                [
                    "model",
                    "HR@10",
                    "NDCG@10",
                    "MRR@10",
                    "trained items",
                    "new items",
                ],
                rows,
            ),
            again=run["command"],
        )
    return lines


def ratings() -> list[str]:
    """Return the tables of predicted ratings."""
    rows = []
    for name in names("ratings-*"):
        for which, run in read(name)["runs"].items():
            models = {key.partition(" (")[0]: value for key, value in run["models"].items()}
            beside = [
                share(models.get(key, {}).get("rmse"))
                for key in ("running biases", "biased factors", "biases", "global mean")
            ]
            rows.append(
                [
                    f"`{name}`",
                    which,
                    of_settings(run["settings"]),
                    share(models["segue"]["rmse"]),
                    share(models["segue"]["mae"]),
                    *beside,
                    interval(improvement(run), 3),
                    share(run["coverage"]["95 %"], 3),
                    run["date"],
                ]
            )
    head = [
        "file",
        "split, task, seed",
        "settings",
        "RMSE",
        "MAE",
        "moving biases",
        "biased factors",
        "biases",
        "global mean",
    ]
    head += ["squared error below the best baseline", "inside the 95 % interval", "date"]
    worked, kept = [], read("keras-rating")
    for label in ("ten_epochs", "stopped_by_validation"):
        runs = kept[label]["runs"]
        for pair in dict.fromkeys((run["inputs"], run["variant"]) for run in runs):
            same = [run["rmse"] for run in runs if (run["inputs"], run["variant"]) == pair]
            spread = statistics.stdev(same) if len(same) > 1 else 0.0
            worked.append(
                [
                    pair[1],
                    pair[0],
                    label.replace("_", " "),
                    f"{statistics.fmean(same):.3f} ± {spread:.3f}",
                    str(len(same)),
                ]
            )
    return section(
        "Ratings",
        "Each held-out rating is predicted from earlier ratings only. Ratings with the same timestamp do not influence "
        "each other. *time* holds out the last tenth of the log, *last* the last tenth of each user, *random* a tenth "
        "at random of which nothing is read. RMSE but where said.",
        table(head, rows),
        said("Run again: `python benchmarks/ratings.py --set ml-100k --out FILE`"),
        said(
            f"The worked example with Keras, the last tenth of ml-100k in time, {kept['date']}, RMSE over all "
            "rows, mean and standard deviation over seeds. *Codes* reads the numbers of user and film, "
            "*embedded* learns vectors."
        ),
        table(["network", "inputs", "training", "RMSE", "seeds"], worked),
        again="python examples/keras_rating.py",
    )


def ablation() -> list[str]:
    """Return the tables of parts left out and settings tried."""
    lines = [
        "### Each part left out",
        "",
        "The network with one part or setting changed. Short runs, so compare within a table.",
        "",
    ]
    for name in [
        *names("ablation-*"),
        *names("*-compared-with-had"),
        *names("*-rate-*"),
        *names("dropout-*"),
        "learning-rates",
    ]:
        if name.startswith("ablation") and "rate" in name and name in shown:
            continue
        kept = read(name)
        for part in kept.get("runs", [kept]):
            settings = of_settings(part.get("settings", {}))
            note = f" {worded(part['settings of all'])}." if "settings of all" in part else ""
            lines += [
                f"`{name}`: {part.get('set', '')}, {settings}, seed {part.get('seed', 0)}, {part['date']}.{note}",
                "",
            ]
            keys = ("validation", "validation_log_loss", "test", "validation_with_counts", "test_with_counts")
            rows = [[worded(row), *(share(each.get(key)) for key in keys)] for row, each in part["rows"].items()]
            lines += table(
                ["variant", "validation NDCG@10", "log loss", "test NDCG@10", "blended, validation", "blended, test"],
                rows,
            )
    lines += ["Run again: `python benchmarks/ablation.py --data DIR --set ml-1m-a --out FILE`", ""]
    cells = read("convolution")
    lines += [
        *said(f"Convolutions in the cell: {cells['set']}, {cells['minutes']} minutes, {cells['date']}, validation."),
    ]
    lines += table(["cell", "NDCG@10"], [[name, share(each["ndcg@10"])] for name, each in cells["cells"].items()])
    words = read("word-convolution")
    lines += ["Convolution over the words of a title.", ""]
    rows = [
        [worded(n), share(e["validation"]), share(e.get("test", e.get("ndcg@10"))), e["date"]]
        for n, e in words["rows"].items()
    ]
    return lines + table(["run", "validation NDCG@10", "test or new items, NDCG@10", "date"], rows)


def memory_and_plans() -> list[str]:
    """Return the tables of recall by lag, of plans and of small logs."""
    recall, plans, small = read("recall_by_lag"), read("encoder-decoder-ml-100k"), read("small-logs")["summary"]
    lags = sorted({row["lag"] for row in recall["rows"]})
    cells = list(dict.fromkeys(row["cell"] for row in recall["rows"]))
    found = {(row["cell"], row["lag"]): share(row["recall"], 3) for row in recall["rows"]}
    rows = [[cell, *(found.get((cell, lag), "") for lag in lags)] for cell in cells]
    keys = ("in", "in place", "ndcg", "in order")
    paths = [
        [n, worded(who), *(share(each[key]) for key in keys)]
        for n, part in plans["n"].items()
        for who, each in part.items()
    ]
    summary = [[worded(key), str(round(v, 4) if isinstance(v, float) else v)] for key, v in small.items()]
    return [
        *section(
            "Recall over noise",
            f"One of four cues, then noise, then the cue is asked for; chance is {share(recall['chance'], 2)}; "
            f"{recall['date']}, one seed.",
            table(["cell", *(f"lag {lag}" for lag in lags)], rows),
            again="python benchmarks/recall_by_lag.py --out FILE",
        ),
        *section(
            "Plans",
            f"{plans['set']}, {plans['date']}, seed {plans['seed']}: the path of n items against the next n events.",
            table(["n", "made by", "share of the next n", "at its place", "NDCG", "pairs in order"], paths),
            again="python benchmarks/encoder_decoder.py",
        ),
        *section(
            "Small ordinary logs",
            "Random logs, trained with no option, beside the best of the baselines on the test.",
            table(["what", "value"], summary),
            again="python benchmarks/small_logs.py",
        ),
    ]


def evaluations() -> list[str]:
    """Return the table of how long an evaluation takes; nothing before it was measured."""
    rows = []
    for name in names("evaluation-speed*"):
        run = read(name)
        for row in run["rows"]:
            figures = [number(row[key], 1) for key in ("wall_seconds", "processor_seconds", "peak_memory_gb")]
            load = f"{row['load_before']:.0f} to {row['load_after']:.0f}"
            rows.append([f"`{name}`", row["what"], number(row["events"]), *figures, load, run["date"]])
    if not rows:
        return []
    head = ["file", "what", "events ranked", "seconds", "processor seconds", "memory of the largest process, GB"]
    return section(
        "Evaluation",
        "`segue evaluate` on ml-1m, reading the log among it. Processor seconds are those of all its processes; with "
        "other work beside (the load on two cores), seconds say little. AMD EPYC, 2 cores.",
        table([*head, "load", "date"], rows),
        again="python benchmarks/evaluation.py --data DIR --work FOLDER --out FILE",
    )


def together() -> list[str]:
    """Return the table of training by several workers, beside one process on one core."""
    rows, killed, large = [], read("distributed-faults"), read("distributed-memory")
    for name in names("distributed-ml-*"):
        run = read(name)
        for arm, found in run["arms"].items():
            who = "one process, one core" if arm == "0" else f"{arm} workers, {run['cores']} cores"
            pace, error = run["against_first"][arm]["speed"], share(run["standard_error"])
            scores = " / ".join(map(share, found["ndcg@10"]))
            rows.append([run["log"].partition(".")[0], who, number(found["events_per_second"]), f"{pace:.2f}", scores])
            rows[-1] += [error, f"{run['load']:.0f}", run["date"]]
    head = ["log", "who trains", "events a second", "times as many", "validation NDCG@10 by epoch", "standard error"]
    return section(
        "Several workers",
        "`segue train --workers N` beside one process: width 64, the same events in the same number of epochs. Each "
        "worker learns alone for sixteen updates, then they exchange what they changed. The command was killed after "
        f"epoch {killed['epochs_before'][-1]} of another training and resumed: epochs "
        f"{' and '.join(map(str, killed['epochs_after']))} followed, and none was trained twice. "
        f"{number(large['items'])} items of width {large['width']}, {large['tables_gib']} GiB of tables: two workers "
        f"learnt {number(large['rows'][-1]['events_per_second'])} events a second, with "
        f"{large['worker_peak_gib']} GiB in the larger one, files that can be dropped among it, and "
        f"{large['driver_peak_gib']} GiB in the process that started them. What a large log and catalogue "
        "need: [Scale](scale.md).",
        table([*head, "load", "date"], rows),
        again="python benchmarks/distributed.py quality LOG --epochs 2 --arms 0,2,4 -- --set model.width=64",
    )


def speed() -> list[str]:
    """Return the tables of training and reading."""
    rows, sampled = [], []
    for name in names("training*"):
        run = read(name)
        rows.append(
            [
                f"`{name}`",
                of_settings(run["settings"]),
                run.get("precision", "float32"),
                number(run["events_per_second"]),
                number(run["achieved_gflops"], 1),
                number(run["peak_gflops"], 1),
                f"{run['share_of_peak']:.0%}",
                run["date"],
            ]
        )
        for each in run.get("sampled", ()):
            times = [number(each.get(key), 1) for key in ("update_ms", "input_ms", "memory_gib")]
            sampled.append([f"`{name}`", number(each["items"]), *times])
    gru = {str(each["units"]): each["events_per_second"] for each in read("training")["plain_gru"]}
    rival = read("peer-gru4rec-ml-1m-speed")["events_per_second_by_width_first_30_seconds"]
    units = [[n, number(rival[n]), number(gru[n]), f"{gru[n] / rival[n]:.1f}"] for n in rival if n in gru]
    large, forms, ease = read("large"), read("recurrence"), read("ease")
    steps = [[n, *(number(ms, 2) for ms in each.values())] for n, each in forms["milliseconds"].items()]
    solved = [
        [number(int(n)), way, number(each.get("processor_seconds"), 1) or f"ended by signal {each['ended_by_signal']}"]
        for n, ways in ease["items"].items() for way, each in ways.items()
    ]  # fmt: skip
    return section(
        "Training",
        "One epoch over ml-1m (987,531 targets), softmax over all items. Only products of matrices count as "
        "operations; the peak is the best float32 product in the same run. AMD EPYC, 2 cores.",
        table(["run", "settings", "factors", "events a second", "GFLOPS", "peak", "share of the peak", "date"], rows),
        said("An update with 2,048 drawn negatives, by the size of the catalogue."),
        table(["run", "items", "update, ms", "drawing, ms", "memory, GiB"], sampled),
        said("One GRU layer with 2,048 drawn negatives, events a second."),
        table(["units", "GRU4Rec (official)", "Segue", "ratio"], units),
        said("Run again: `python benchmarks/training.py --data DIR --json`"),
        said(
            f"{large['source']} expanded to {large['events']:,} events, {large['minutes_of_training']:g} minute of "
            f"training: {large['train']['processor_seconds']:,.0f} processor seconds in all, at most "
            f"{large['train']['peak_memory_gib']} GiB of memory ({large['date']}, {large['cores']} cores with other "
            "work). Run again: `python benchmarks/large.py ratings.csv`. [Scale](scale.md) has the parts."
        ),
        said(
            f"Forms of the linear recurrence, milliseconds for forward and gradient ({forms['date']}; "
            "`python benchmarks/recurrence.py`)."
        ),
        table(["steps", *next(iter(forms["milliseconds"].values()))], steps),
        said(f"Solving EASE, processor seconds ({ease['date']}; `python benchmarks/ease.py`)."),
        table(["items", "way", "processor seconds"], solved),
    )


def latency(each: Mapping[str, Any] | None, keys: tuple[str, ...] = ("p50_ms", "p90_ms", "p99_ms")) -> str:
    """Return percentiles as a cell of a table."""
    return " / ".join(f"{each[key]:.1f}" for key in keys) if each else ""


def rates(what: str, key: str) -> list[tuple[str, Callable[[Any], str]]]:
    """Return a row for each rate of requests: its words, and how a run becomes its cell."""
    return [
        (f"{what}, {n} a second, p50 / p90 / p99 ms", lambda run, n=n: latency(run.get(f"{key}_{n}_per_second")))
        for n in (200, 500, 1000)
    ]


def serving() -> list[str]:
    """Return the tables of serving."""
    million = read("serving-million")
    runs = {
        "10,000 items": read("serving"),
        "10,000 items, again": read("serving-again"),
        "a million items": million["after"],
    }
    runs["a million items, the version before"] = million["before"]
    what = (
        ("events with lists a second", lambda r: number(r["events_with_list_per_second"])),
        ("processor time of one, us", lambda r: number(r["cpu_us"])),
        ("an empty handler: a second", lambda r: number(r["empty_per_second"])),
        ("share of the empty handler", lambda r: share(r["share_of_empty"], 2)),
        *rates("event with list", "at"),
        *rates("list alone", "lists_alone_at"),
        ("start to listening, s", lambda r: number(r["start_seconds"], 2)),
        ("peak memory, MiB", lambda r: number(r.get("peak_memory_mib"))),
        ("recall@20 of the index", lambda r: share(r.get("index", {}).get("recall_on_1000_other_queries"))),
        ("date", lambda r: r["date"]),
    )  # fmt: skip
    rows = [[label, *(of(run) for run in runs.values())] for label, of in what]
    return [
        *section(
            "Events with lists over HTTP",
            "One process on 2 cores; the load comes from the same cores over 32 open connections. An event is on disk "
            "before its answer, and is ranked by the state before it. Random weights, width 64.",
            table(["", *runs], rows),
            again="python benchmarks/serving.py",
        ),
        *before_and_after(),
        *trends(),
        *histories(),
        *index(),
        *small_requests(),
        *filters(),
        *shop_lists(),
        *stores(),
        *workers(),
    ]


def trends() -> list[str]:
    """Return the tables of what lists that follow everybody cost."""
    run = read("trends-serving")
    served, memory, start = run["serving"], run["memory"], run["replay"]
    what = (
        ("an event with its list, processor time, us", "cpu_us"),
        ("events with lists a second", "events_with_list_per_second"),
        ("an empty handler, processor time, us", "empty_cpu_us"),
        ("peak memory, MiB", "peak_memory_mib"),
    )  # fmt: skip
    rows = [[label, *(number(served[side][key]) for side in ("without", "with"))] for label, key in what]
    each = ", ".join(f"{one:.2f}" for one in served["cpu_ratio_of_each_round"])
    return section(
        "Lists that follow everybody",
        f"{run['settings']['items']:,} items, a server whose model has a ranker of random weights and one without, in "
        f"turn; medians of {run['settings']['rounds']} rounds, {run['date']}, load of the machine "
        f"{run['load_at_the_end']:.1f} on 2 cores. Processor time with trends over that without, by round: {each}.",
        table(["", "without trends", "with trends"], rows),
        said(
            f"A start counts a log of {start['events']:,} events of {start['users']:,} users in an SQLite store with "
            f"{start['cpu_us']} us of processor time an event, of which {start['reading_the_log_cpu_us']} us read the "
            f"log: {1e6 / start['cpu_us']:,.0f} events a second of one processor, {start['events_per_second']:,} "
            f"beside other work. {memory['items']:,} items and {memory['pairs']:,} pairs take "
            f"{memory['bytes'] / 2**20:,.0f} MiB, with their ids {memory['resident_mib']:,} MiB."
        ),
        again="python benchmarks/trends.py --rounds 4",
    )


def surroundings(run: Mapping[str, Any]) -> str:
    """Return in what surroundings a run of `scale_out.py` was made."""
    return (
        f"{run['date']}, {run['cores']} cores, load of the machine {run['load_at_the_begin']:.0f} to "
        f"{run['load_at_the_end']:.0f}, niceness {run['niceness']}; an append with sync took {run['sync_ms']:.1f} ms; "
        f"medians of {run['rounds']} rounds, in which what is compared took turns."
    )


def stores() -> list[str]:
    """Return the table of the stores."""
    run = read("stores")
    three = ("p50_ms", "p90_ms", "p99_ms")
    ends = ("p50_ms", "p99_ms", "max_ms")
    what = (
        ("commits of 1 event: a second", lambda r: number(r["commits_of_1"]["each_per_second"])),
        ("p50, ms", lambda r: number(r["commits_of_1"]["p50_ms"], 2)),
        ("commits of 64 events: events a second", lambda r: number(r["commits_of_64"]["each_per_second"])),
        ("reading a head, p50, ms", lambda r: number(r["head_p50_ms"], 3)),
        ("over HTTP: events with lists a second", lambda r: number(r["events_with_list_per_second"])),
        ("processor time of one, us: server", lambda r: number(r["cpu_us"])),
        ("processor time of one, us: engine", lambda r: number(r["engine_cpu_us"])),
        ("one event with its list at a time, p50 / p90 / p99, ms", lambda r: latency(r["one_event_with_list"], three)),
        ("500 a second, p50 / p90 / p99, ms", lambda r: latency(r["at_500_per_second"], three)),
        ("batches of 100: events a second", lambda r: number(r["batches_of_100_events_per_second"])),
        ("200 a second during erasures, p50 / p99 / longest, ms", lambda r: latency(r["erasing"]["events"], ends)),
        ("an erasure among 100,000 events, p50, ms", lambda r: number(r["erasing"]["p50_ms"])),
    )  # fmt: skip
    rows = [[label, *(of(store) for store in run["stores"].values())] for label, of in what]
    heads = {"sqlite": "SQLite", "valkey": "Valkey", "postgres": "PostgreSQL"}
    return section(
        "Stores beside each other",
        "Each commit is on disk before its answer. SQLite is part of the server's process; the others are servers of "
        "their own on the same cores, so they suffer more from other work. " + surroundings(run),
        table(["", *(heads[name] for name in run["stores"])], rows),
        again="nice -n -10 python benchmarks/scale_out.py stores",
    )


def workers() -> list[str]:
    """Return the tables of several workers."""
    run = read("workers")
    what = [
        ("events with lists a second", lambda r: number(r["events_with_list_per_second"])),
        ("processor time of one, us: workers", lambda r: number(r["cpu_us"])),
        ("processor time of one, us: PostgreSQL", lambda r: number(r["engine_cpu_us"])),
        ("cores that the workers used", lambda r: number(r["cores_of_the_workers_in_use"], 2)),
    ]  # fmt: skip

    def beside(found: Any, rate: int) -> str:
        waiting = (f"{rate} a second, p50 / p90 / p99, ms", lambda r: latency(r[f"at_{rate}_per_second"]))
        rows = [[label, *(of(found[name]) for name in ("one", "two"))] for label, of in [*what, waiting]]
        return table(["", "one worker", "two workers"], rows)

    part = read("workers-share")
    two = run["two_servers"]
    met = []
    labels = {
        "kills": "kill -9 of a worker",
        "roll_outs": "another model in `current`",
        "replacements": "workers replaced by SIGHUP",
    }
    for name, label in labels.items():
        one = run[name]
        answers = ", ".join(f"{code} {count:,}" for code, count in sorted(one["answers"].items()))
        lost = [number(one[key]) for key in ("acknowledged_events", "lost", "doubled")]
        met.append([f"{label}, {one['times']} times", *lost, answers, f"{one['longest_pause_of_a_client_s']:.1f}"])
    head = ["", "acknowledged events", "lost", "twice", "answers", "longest pause of a client, s"]
    return section(
        "Workers",
        "Workers over one PostgreSQL store. In the first table each worker has a quota of "
        f"{part['share']:.0%} of a core, so that the load and the database have room beside both: two workers took "
        f"{part['times_as_many']} times the events of one. {surroundings(part)}",
        beside(part, 250),
        said(
            "In the second table each worker has a core, which it shares with the database and the load. Two servers "
            f"on two ports over one store answered {two['events_with_list_per_second']:,} events with lists a second. "
            "In the third eight clients send events and repeat what gets no answer, over connections that stay open. "
            + surroundings(run)
        ),
        beside(run, 500),
        table(head, met),
        again="nice -n -10 python benchmarks/scale_out.py workers --share .3",
    )


def before_and_after() -> list[str]:
    """Return the table of the two ways of a request: a reader beside a framework, and one decoder."""
    run = read("serving-before-after")
    sides = [run["before"], run["after"]]
    what = (
        ("events with lists a second", lambda r: number(r["events_with_list_per_second"])),
        ("processor time of one, us", lambda r: number(r["cpu_us"])),
        ("an empty handler, processor time, us", lambda r: number(r["empty_cpu_us"])),
        ("share of the empty handler, by rate", lambda r: share(r["share_of_empty"], 2)),
        ("share of the empty handler, by processor time", lambda r: share(r["empty_cpu_us"] / r["cpu_us"], 2)),
        *rates("event with list", "at")[1:],
        *rates("list alone", "lists_alone_at")[1:],
        ("start to listening, s", lambda r: number(r["start_seconds"], 2)),
        ("peak memory, MiB", lambda r: number(r["peak_memory_mib"])),
    )  # fmt: skip
    return section(
        "One decoder for each request, before and after",
        f"Medians of {run['rounds']} rounds in turn, {run['date']}; load of the machine {run['load']:.1f} on 2 cores. "
        "The empty handler is one of FastAPI on both sides.",
        table(["", "two readers, FastAPI", "one decoder, Starlette"], [[label, *map(of, sides)] for label, of in what]),
        again="python benchmarks/serving.py",
    )


def histories() -> list[str]:
    """Return the table of long histories."""
    run = read("histories")
    rows = [[what, *(latency(run[key][who]) for who in ("short", "long")), f"{run[key]['ratio']['p99_ms']:.2f}"]
            for what, key in (("event with list", "event_with_list"), ("list alone", "list"))]  # fmt: skip
    return section(
        "Long histories",
        f"One user with {run['settings']['events']:,} events beside users with three, {run['date']}, in the process, "
        "p50 / p90 / p99 ms.",
        table(["", "3 events", f"{run['settings']['events']:,} events", "ratio of the p99"], rows),
        again="python benchmarks/histories.py",
    )


def index() -> list[str]:
    """Return the table of the index of a large catalogue."""
    run = read("index")
    ways = {
        "index": "approximate",
        "index, 50 items left out": "approximate_with_50_left_out",
        "all items scored": "exact",
    }
    rows = [[n, latency(run[key]), number(run[key]["queries_per_second_in_batches"])] for n, key in ways.items()]
    found = (run["facts"]["recall"], run["recall_on_other_queries"], run["recall_with_50_left_out"])
    recall = ", ".join(map(share, found))
    return section(
        "Index of a million items",
        f"{run['items']:,} synthetic vectors of width {run['width']}, built in {run['facts']['seconds']} s. "
        f"Recall@{run['k']} on the queries of its tuning, on others, and with 50 items left out: {recall}.",
        table(["search", "p50 / p90 / p99 ms", "queries a second, in batches"], rows),
        again="python benchmarks/index.py",
    )


def small_requests() -> list[str]:
    """Return the table of all requests, one by one."""
    run = read("small-requests")
    sizes = list(run["items"])
    rows = []
    for what in run["items"][sizes[0]]:
        cells = [run["items"][size].get(what, {}) for size in sizes]
        if all("p50" in cell for cell in cells):
            rows.append([worded(what), *(f"{cell['p50']:.2f} ({cell['max']:.2f})" for cell in cells)])
    return section(
        "Each request by itself",
        f"In the process, one user with {run['events']:,} events, no index, {run['date']}; p50 in ms, in brackets the "
        "longest.",
        table(["request", *(f"{int(size):,} items" for size in sizes)], rows),
        again="python benchmarks/small_requests.py",
    )


def filters() -> list[str]:
    """Return the tables of filters: masks, and whole lists."""
    run = read("filters")
    sizes, first = list(run["items"]), [each["first, s"] for each in run["items"].values()]

    def cell(times: Mapping[str, float]) -> str:
        return f"{times['processor']:.2f} ({times['clock']:.2f})"

    masks = [
        [name, *(cell(run["items"][size]["filters"][name][how]) for size in sizes for how in ("new", "repeated"))]
        for name in run["items"][sizes[0]]["filters"]
    ]
    ways = list(run["items"][sizes[0]]["requests"])
    lists = [
        [how, *(cell(run["items"][size]["requests"][way][how]) for size in sizes for way in ways)]
        for how in run["items"][sizes[0]]["requests"][ways[0]]
    ]
    once = ", ".join(
        f"{each['laid out, once']:.2f} s at {int(size):,}" for size, each in zip(sizes, first, strict=True)
    )
    heads = [f"{int(size):,} items, {how}" for size in sizes for how in ("new", "repeated")]
    return section(
        "Filters",
        "From the text of a filter to a mask of all items; then whole requests to the application of a server, without "
        "a network: a list of 10, for a user with 200 events, with the last of these filters, with rules, and so on. "
        f"p50 of the processor time in ms, in brackets on the clock, with other work on the machine (load "
        f"{run['load']:.0f} on {run['cores']} cores), {run['date']}. Columns are laid out once, when a server starts: "
        f"{once} items.",
        table(["filter", *heads], masks),
        table(["request", *(f"{int(size):,} items, {way}" for size in sizes for way in ways)], lists),
        again="nice -n -10 python benchmarks/filters.py -o benchmarks/results/filters.json",
    )


#: What a case of similar items is, and what stands for being similar.
SIMILAR = {
    "ml-100k-items": "ml-100k with genres and titles",
    "ml-latest-small": "ml-latest-small, ids alone",
    "ml-latest-small-items": "ml-latest-small with genres and titles",
    "ml-latest-small-cold": "films without an event, genres and titles",
    "beauty-items": "Beauty with titles",
    "yoochoose": "yoochoose 1/64, ids alone",
    "globo": "Globo's news, ids alone, no transition counts",
}


def alike() -> list[str]:
    """Return the table of similar items."""
    run = read("similar")
    ways = ("before", "co-occurrence alone", "vectors alone", "attributes alone", "now")

    def lacks(found: Mapping[str, float], way: str) -> bool:
        """Without counts or attributes, these alone are the vectors."""
        return way.endswith("alone") and way != "vectors alone" and found[way] == found["vectors alone"]

    rows = [
        [SIMILAR[name], what, str(found["items"]), *("" if lacks(found, way) else share(found[way]) for way in ways)]
        for name, case in run["cases"].items()
        for what, found in case["ndcg@10"].items()
    ]
    return section(
        "Similar items",
        "NDCG@10 of the items most like an item. The weights of the three likenesses were picked by hand, on other "
        "items of ml-latest-small and a small part of Globo; the series of ml-100k and the items without events were "
        "seen on the way. The gains: "
        "series, titles that differ by a number or after a colon; genres and attributes, the share in common; tags, "
        "rare ones that people gave; sessions, how many held-out sessions hold both. A model with titles reads them, "
        f"so that its series are easy. Small models ({run['date']}); the version before took the score after the item "
        "and plain cosines.",
        table(["log", "similar are", "items", *ways], rows),
        again="python benchmarks/similar.py --data DIR --models FOLDER -o benchmarks/results/similar.json",
    )


def shop_lists() -> list[str]:
    """Return the tables of scenarios, chance and impressions: what they cost, and what impressions bring."""
    run = read("shop-lists")
    ways, turns, visits = run["cost, ms"], run.get("in turns", {}), run["visits"]
    rows = [
        [kind, *(f"{times[kind]['processor']:.2f} ({times[kind]['clock']:.2f})" for times in list(ways.values())[1:])]
        for kind in ways["with more"]
    ]
    gains = [
        [way, f"{share(each['taken in a visit'])} ± {share(each['95 %'])}"]
        for way, each in visits.items()
        if isinstance(each, dict)
    ]
    plain = [[kind, *(f"{times[kind]:.2f}" for times in turns.values())] for kind in turns.get("before", {})]
    return section(
        "Scenarios, chance and impressions",
        f"Requests in the process, without a socket, at {run['items']:,} items: p50 of the processor "
        f"time in ms, in brackets on the clock, with much other work on the machine (load {run['load'][0]:.0f} on "
        f"{run['cores']} cores), {run['date']}. Then the items that simulated users take in a visit, who tire of what "
        f"they are shown in vain ({visits['users']} users, {visits['visits']} visits each): a simulation, and no "
        "evidence about people.",
        table(["request", "no experiment runs", "one runs"], rows),
        table(["impressions", "items taken in a visit, 95 % interval over users"], gains),
        *([table(["request, processor time", *turns], plain)] if plain else []),
        again="python benchmarks/shop_lists.py --beside OLD/src",
    )


def faults() -> list[str]:
    """Return the tables of kills, of long load and of hostile input."""
    rows = []
    for name in names("kills*"):
        run = read(name)
        first = run["first_answer_after_start"]
        rows.append(
            [
                number(run["kills"]),
                number(run["acknowledged_events"]),
                str(run["lost"]),
                str(run["doubled"]),
                f"{run['states_unequal_to_replay']} of {run['states_stored']}",
                f"{first['p50_s']:.2f} / {first['max_s']:.2f}",
                run["date"],
            ]
        )
    soak, hostile, fuzz = read("soak"), read("hostile"), read("fuzz-model-files")
    statuses: dict[str, int] = {}
    for answers in hostile["answers_by_operation"].values():
        for label, count in answers.items():
            statuses[label.split()[-1]] = statuses.get(label.split()[-1], 0) + count
    fine = all(key.endswith(" 200") for key in soak["answers"])
    ms = soak["milliseconds"]
    mixed = [
        f"{soak['requests']:,} mixed requests in {soak['settings']['minutes']:.0f} minutes (`benchmarks/soak.py`)",
        f"{'all answered with 200' if fine else 'some refused'}; p50 {ms['p50']:.0f}, p99 {ms['p99']:.0f} ms; memory "
        f"grew by {soak['after_warm_up']['anonymous']['mib_a_minute']:.4f} MiB a minute after the beginning",
        soak["date"],
    ]
    drawn = [
        f"{hostile['requests']:,} requests drawn from the server's description (`tests/unit/test_hostile.py`)",
        "answers by status: " + ", ".join(f"{code} {count:,}" for code, count in sorted(statuses.items())),
        hostile["date"],
    ]
    damaged = [
        f"{fuzz['files']:,} damaged and crafted model files (`benchmarks/fuzz_model_files.py`)",
        f"{fuzz['refused_with_ModelError']:,} refused, {fuzz['answered']:,} still good, {fuzz['faults']} faults",
        fuzz["date"],
    ]
    head = ["kills", "acknowledged events", "lost", "twice", "states unlike a replay"]
    return [
        *section(
            "Kills",
            "A server under load is ended by SIGKILL again and again; eight clients write to 32 users.",
            table([*head, "first list after a start, p50 / longest, s", "date"], rows),
            again="python benchmarks/kills.py",
        ),
        *section(
            "Long load, hostile requests, damaged files", "", table(["what", "result", "date"], [mixed, drawn, damaged])
        ),
    ]


def page() -> str:
    """Return the page."""
    lines = [
        "# Results",
        "",
        "This page is printed by `benchmarks/report_results.py` from the files in `benchmarks/results/`.",
        "",
    ]
    lines += [
        "What was tried and dropped stands in the [lab notes](lab-notes/index.md). Scores below 1 are written",
        "as .2175.",
        "",
    ]
    for title, parts in (
        ("Accuracy", (quality, peers, beyond_ids, alike, streams, ratings, memory_and_plans, agreement)),
        ("Speed", (speed, together, evaluations)),
        ("Serving", (serving,)),
        ("Faults", (faults,)),
        ("Other settings", (variants, ablation)),
    ):
        lines += [f"## {title}", "", *(line for part in parts for line in part())]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Print the page; return 1 where a file is on it nowhere."""
    print(page(), end="")
    if left := sorted(set(names("**/*")) - shown - set(names("scale/*"))):  # those are on the page of `cost_model.py`
        print(f"report_results: expected each file in a table, found none for {', '.join(left)}.", file=sys.stderr)
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
