"""One page that shows all numbers of a report and needs nothing else: no other file, no network."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from segue.evaluation.comparison_report import figures
from segue.evaluation.comparison_report.pairs import LISTS, Main, best_first, between, short

Numbers = Mapping[str, Any]
_KINDS = {
    "good": "good: among the first three",
    "bad": "bad: beyond the first hundred",
    "different": "where models differ most",
    "random": "drawn at random",
}


_OF_LISTS = {
    "coverage": "Coverage: the share of the catalogue in at least one list.",
    "gini": "Gini: 0 where all items are listed equally often, near 1 where few items fill the lists.",
    "diversity": "Diversity: how unlike the items of a list are in their attributes, 0 to 1.",
    "serendipity": "Serendipity: the share of places with a hit that is not among the ten most popular items.",
    "novelty": "Novelty: how rare the items of a list are, in bits.",
    "popularity bias": "Popularity bias: how much more popular they are than what users take, 0 for as popular.",
}


def page_of(numbers: Numbers) -> str:
    """Return the page of a report; each number on the page is one of `numbers`."""
    parts = [
        ("models", "Models", _models(numbers)),
        ("differences", "Is the difference noise?", _differences(numbers)),
        ("length", "By length of the list", _curves(numbers)),
        ("slices", "Where they are good, and where not", _slices(numbers)),
        ("calibration", "Calibration", _calibration(numbers)),
        ("learning", "Learning curve", _learning(numbers)),
        ("catalogue", "Catalogue and popularity", _catalogue(numbers)),
        ("users", "The same users side by side", _cases(numbers)),
        ("data", "Data card", _data(numbers)),
        ("settings", "Settings", _settings(numbers)),
        ("again", "Make this report again", _again(numbers)),
    ]
    shown = [(id, title, body) for id, title, body in parts if body]
    links = "".join(f'<a href="#{id}">{title}</a>' for id, title, _ in shown)
    names = [short(name) for name, each in numbers["models"].items() if each["kind"] == "model"]
    title = f"Evaluation of {', '.join(names)} on {numbers['data']['source']}"
    notes = "".join(f"<li>{escape(note)}</li>" for note in numbers["notes"])
    head = (
        f'<header><h1>{escape(title)}</h1><p class="verdict">{escape(numbers["verdict"])}</p>'
        f'<p class="quiet">{escape(numbers["protocol"])}</p>'
        f"{f'<ul class=quiet>{notes}</ul>' if notes else ''}<nav>{links}</nav></header>"
    )
    body = "".join(f'<section id="{id}"><h2>{title}</h2>{body}</section>' for id, title, body in shown)
    made = numbers["made"]
    foot = f'<footer class="quiet">Made by Segue {escape(made["segue"])} at {escape(made["at"])}.</footer>'
    template = files("segue.evaluation.comparison_report").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(title), body=f"{head}<main>{body}</main>{foot}")


def _table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], classes: Sequence[str] = ()) -> str:
    """Return a table of ready cells; `classes` are those of the rows."""
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = []
    for place, (name, cells) in enumerate(rows):
        of = f' class="{classes[place]}"' if place < len(classes) and classes[place] else ""
        body.append(f'<tr{of}><th scope="row">{name}</th>{"".join(cells)}</tr>')
    return f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _cell(text: str, kind: str = "") -> str:
    return f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _interval(value: Mapping[str, float], *, signed: bool = False) -> str:
    how = "+.4f" if signed else ".4f"
    return f'{value["mean"]:{how}} <span class="ends">{value["low"]:{how}} to {value["high"]:{how}}</span>'


def _of(numbers: Numbers) -> Main:
    return Main(**numbers["main"])


def _order(numbers: Numbers) -> list[str]:
    """Return the names of all models, the best first."""
    return best_first({name: each["intervals"] for name, each in numbers["models"].items()}, _of(numbers))


def _compared(numbers: Numbers) -> list[str]:
    """Return the models that are measured and the best baseline, in the order of their colours."""
    own = [name for name, each in numbers["models"].items() if each["kind"] == "model"]
    return [*own, *[name for name in _order(numbers) if name not in own][:1]]


def _models(numbers: Numbers) -> str:
    models, compared, order, of = numbers["models"], _compared(numbers), _order(numbers), _of(numbers)
    others = [metric for metric in next(iter(models.values()))["metrics"] if metric not in of.shown]
    covered = ["coverage@10"] if "coverage@10" in others else []
    head = ["", *(metric.upper() for metric in of.shown), *(metric.capitalize() for metric in covered)]
    rows = []
    for name in order:
        metrics, ends = models[name]["metrics"], models[name]["intervals"]
        cells = [_cell(_interval(ends[metric])) for metric in of.shown]
        rows.append((escape(short(name)), [*cells, *(_cell(_number(metrics[metric])) for metric in covered)]))
    classes = [models[name]["kind"] for name in order]
    places = {name: place for place, name in enumerate(compared)}
    chart = figures.intervals(
        [(short(name), models[name]["intervals"][of.metric], places.get(name)) for name in order],
        f"{of.title} with 95 % confidence intervals",
    )
    every = _table(
        ["", *others],
        [(escape(short(name)), [_cell(_number(models[name]["metrics"].get(m))) for m in others]) for name in order],
    )
    tuned = [escape(name) for name in order if name != short(name)]
    settings = f'<p class="quiet">Baselines as tuned: {"; ".join(tuned)}.</p>' if tuned else ""
    return (
        "<p>Means over all held-out events, with 95 % confidence intervals by a bootstrap over users. "
        "Baselines stand in the same table in lighter type.</p>"
        f'<div class="beside">{_figure(chart)}{_table(head, rows, classes)}</div>'
        + (f"<details><summary>All metrics</summary>{every}{settings}</details>" if others else settings)
    )


def _figure(svg: str, caption: str = "") -> str:
    return f"<figure>{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}{svg}</figure>"


def _differences(numbers: Numbers) -> str:
    pairs, compared, order, what = numbers["pairs"], _compared(numbers), _order(numbers), _of(numbers).difference
    if not pairs:
        return ""
    every = [(a, b) for place, a in enumerate(order) for b in order[place + 1 :]]
    shown = [pair for pair in every if set(pair) <= set(compared)]
    whole = ""
    if len(shown) < len(every):
        grid = [(escape(short(a)), [_of_pair(pairs, a, b) for b in order]) for a in order]
        whole = (
            "<details><summary>Any two of all models and baselines</summary>"
            '<p class="quiet">The row against the column; grey: may be noise.</p>'
            f"{_table(['', *(escape(short(name)) for name in order)], grid)}"
            f"{_pair_table(what, pairs, [pair for pair in every if pair not in shown])}</details>"
        )
    return (
        f"<p>Both models of a pair answer the same events, so whole users are drawn in pairs. Of {len(pairs)} "
        f"pair{'s' * (len(pairs) != 1)}, p is corrected by Holm's method; below 0.05 the difference is more than "
        f"noise. The intervals are of each pair alone.</p>{_pair_table(what, pairs, shown)}{whole}"
    )


def _pair_table(what: str, pairs: Sequence[Numbers], wanted: Sequence[tuple[str, str]]) -> str:
    rows = []
    for a, b in wanted:
        pair = between(pairs, a, b)
        says, kind = _says(pair)
        p = "&lt; 0.0001" if pair["p_holm"] < 0.0001 else _number(pair["p_holm"])
        cells = [_cell(says, kind), _cell(_interval(pair, signed=True)), _cell(p)]
        rows.append((f"{escape(short(a))} against {escape(short(b))}", cells))
    return _table(["", "verdict", what, "p, corrected"], rows)


def _says(pair: Numbers) -> tuple[str, str]:
    """Return the verdict on a pair, and its class."""
    if pair["noise"]:
        return "may be noise", "noise"
    return ("better", "better") if pair["mean"] > 0 else ("worse", "worse")


def _of_pair(pairs: Sequence[Numbers], a: str, b: str) -> str:
    if a == b:
        return _cell("·", "noise")
    pair = between(pairs, a, b)
    return _cell(f"{pair['mean']:+.4f}", _says(pair)[1])


def _curves(numbers: Numbers) -> str:
    of, bold = numbers.get("curves"), _compared(numbers)
    if not of:
        return ""
    charts = [
        _figure(figures.curves(of["k"], of[metric], bold, title))
        for metric, title in (("hr", "hit rate"), ("ndcg", "NDCG"), ("mrr", "MRR"))
    ]
    grey = "Grey lines: the other baselines. " if len(of["hr"]) > len(bold) else ""
    return (
        f'<p>{grey}The value at each k is in <code>report.json</code>.</p><div class="charts">{"".join(charts)}</div>'
    )


def _slices(numbers: Numbers) -> str:
    if not numbers["slices"]:
        return ""
    of = _of(numbers)
    charts = [
        _figure(figures.slices(way, of.title, f"{of.title} by {way['by']}"), f"By {way['by']}")
        for way in numbers["slices"]
    ]
    tables = "".join(f"<h3>By {escape(way['by'])}</h3>{_slice_table(way, of)}" for way in numbers["slices"])
    return (
        f"<p>{of.title} of parts of the held-out events, the number of events in brackets. Slices are many: "
        "an interval beside another, one time in twenty, is chance.</p>"
        f'<div class="packed">{"".join(charts)}</div>'
        f"<details><summary>All numbers of the slices</summary>{tables}</details>"
    )


def _slice_table(way: Numbers, of: Main) -> str:
    names = list(way["rows"][0]["models"])
    two = len(names) > 1
    head = [escape(way["by"]), "events", "users", *(escape(short(name)) for name in names)]
    head += [f"{escape(short(names[0]))} against {escape(short(names[1]))}, {of.difference}"] if two else []
    rows = []
    for row in way["rows"]:
        cells = [_cell(f"{row['queries']:,}"), _cell(f"{row['users']:,}")]
        cells += [_cell(_interval(row["models"][name])) for name in names]
        cells += [_cell(_interval(row["difference"], signed=True))] if two else []
        rows.append((escape(row["slice"]), cells))
    return _table(head, rows)


def _calibration(numbers: Numbers) -> str:
    of = {name: each for name, each in numbers.get("calibration", {}).items() if each}
    charts, words = [], ""
    if of:
        bins = {name: each["bins"] for name, each in of.items()}
        charts.append(
            _figure(
                figures.calibration(bins, "predicted chance", "share that came next", "Calibration of scores"),
                "Items of lists of 10, in ten equal parts by their predicted chance.",
            )
        )
        rows = [
            (
                escape(name),
                [_cell(_number(each["log_loss"], 3)), _cell(_number(each["error"])), _cell(f"{each['queries']:,}")],
            )
            for name, each in of.items()
        ]
        words = "<p>Does an item come next as often as its score says? On the line, yes.</p>"
        words += _table(["", "log loss, nats", "calibration error", "events"], rows)
    if numbers["ratings"]:
        rated = {
            name: [{"predicted": each["predicted"], "observed": each["given"]} for each in report["calibration"]]
            for name, report in numbers["ratings"].items()
        }
        charts.append(
            _figure(
                figures.calibration(rated, "predicted rating", "given rating", "Calibration of ratings"),
                "Ratings, in ten equal parts by their prediction.",
            )
        )
        rows = [
            (
                escape(name),
                [_cell(_number(report["models"]["segue"][key])) for key in ("rmse", "mae")]
                + [_cell(f"{report['coverage'][key]:.1%}") for key in ("50 %", "95 %")],
            )
            for name, report in numbers["ratings"].items()
        ]
        words += _table(["ratings", "RMSE", "MAE", "in the 50 % interval", "in the 95 % interval"], rows)
    return words + f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _learning(numbers: Numbers) -> str:
    known = {name: rows for name, rows in numbers["learning"].items() if rows}
    charts = [
        _figure(figures.learning(known, metric, title))
        for metric, title in (
            (LISTS.metric, "NDCG@10 on validation"),
            ("rmse", "RMSE on validation"),
            ("loss", "loss on training data"),
        )
        if any(metric in row for rows in known.values() for row in rows)
    ]
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _catalogue(numbers: Numbers) -> str:
    of, order = numbers.get("catalogue"), _order(numbers)
    if not of:
        return ""
    head = list(next(iter(of.values())))
    rows = [(escape(short(name)), [_cell(_number(of[name][key], 3)) for key in head]) for name in order]
    words = " ".join(text for name, text in _OF_LISTS.items() if f"{name}@10" in head)
    return f"<p>{words}</p>" + _table(["", *head], rows, [numbers["models"][name]["kind"] for name in order])


def _cases(numbers: Numbers) -> str:
    cases = numbers.get("cases")
    if not cases:
        return ""
    kinds = [kind for kind in _KINDS if any(case["kind"] == kind for case in cases)]
    options = "".join(f'<option value="{kind}">{escape(_KINDS[kind])}</option>' for kind in kinds)
    first = short(next(iter(cases[0]["models"])))
    return (
        f"<p>{len(cases)} users, each once: their last events, and the list of each model before the next event. "
        f"Good and bad are cases of {escape(first)}. The item that came next is marked.</p>"
        '<form id="find" role="search"><input id="search" type="search" aria-label="Search users and items" '
        f'placeholder="User, title or id"><select id="kind" aria-label="Kind of case">'
        f'<option value="">all cases</option>'
        f'{options}</select><span id="count" class="quiet" aria-live="polite"></span></form>'
        + "".join(_case(case, is_open=place == 0) for place, case in enumerate(cases))
    )


def _case(case: Numbers, *, is_open: bool) -> str:
    target = case["target"]["item"]
    ranks = ", ".join(f"{short(name)} {_rank(each)}" for name, each in case["models"].items())
    events = "".join(f"<li>{escape(event['title'])} {_time(event)}</li>" for event in case["history"])
    left = case["earlier"] - len(case["history"])
    more = f'<p class="quiet">{left:,} earlier events are not shown.</p>' if left else ""
    none = "" if case["history"] else '<p class="quiet">No event before.</p>'
    lists = "".join(
        f"<div><h4>{escape(short(name))}: rank {_rank(each)}</h4><ol>"
        + "".join(
            f"<li{' class=hit' if item['item'] == target else ''}>{escape(item['title'])}</li>" for item in each["list"]
        )
        + "</ol></div>"
        for name, each in case["models"].items()
    )
    return (
        f'<details class="case" data-kind="{case["kind"]}"{" open" if is_open else ""}><summary>'
        f"<strong>{escape(str(case['user']))}</strong><span>then came {escape(case['target']['title'])}</span>"
        f'<span class="quiet">rank: {escape(ranks)}</span><span class="tag">{case["kind"]}</span></summary>'
        f'<div class="columns"><div><h4>Last events, oldest first</h4>{more}{none}<ol class="plain">{events}</ol>'
        f"<h4>Then came</h4><ol class=plain><li class=hit>{escape(case['target']['title'])} {_time(case['target'])}"
        "</li></ol>"
        f"</div>{lists}</div></details>"
    )


def _rank(of: Numbers) -> str:
    if of.get("beyond"):
        return f"beyond {of['beyond']}"
    return "unknown" if of["rank"] is None else f"{of['rank']:,}"


def _time(event: Numbers) -> str:
    return f'<span class="quiet">{event["time"].replace("T", " ")}</span>' if "time" in event else ""


def _data(numbers: Numbers) -> str:
    card, queries = numbers["data"], numbers["data"]["queries"]
    lines = _of_log(card["log"]) if "log" in card else [("source", card["source"])]
    for part in ("train", "test"):
        if each := card.get(part):
            span = f", {_moment(each['first'])} to {_moment(each['last'])}" if "first" in each else ""
            lines.append((part, f"{each['events']:,} events, {each['users']:,} users, {each['items']:,} items{span}"))
    if cut := card.get("cut"):
        when = f"are later than every training event ({_moment(cut['last_training_event'])})"
        lines.append(("after the cut", f"{cut['share']:.1%} of the test events {when}"))
    if queries["new_items"] is not None:
        never = f"{queries['new_items']:,} test events are of items, {queries['new_users']:,} of users"
        lines.append(("new", f"{never} that training never met"))
    lines += [("digest of the test", queries["digest"][:12]), *(("note", note) for note in card["notes"])]
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(str(text))}</dd>' for name, text in lines)}</dl>"


def _of_log(log: Numbers) -> list[tuple[str, str]]:
    """Return what was read, as lines of the data card."""
    size = f"{log['events']:,} events, {log['users']:,} users, {log['items']:,} items"
    dropped = "; ".join(f"{count:,} rows, {why}" for why, count in log["dropped"].items())
    return [
        ("read", f"{log['rows']:,} rows of {log['source']}: {size}"),
        ("columns", ", ".join(f"{role} = {name}" for role, name in log["columns"].items())),
        ("dropped", dropped or "no row"),
        ("repeats", f"{log['repeats']:,} events ({log['repeat_share']:.1%}) repeat an item of the same user"),
        ("duplicates", f"{log['duplicates']:,} rows equal another row"),
    ]


def _moment(time: str) -> str:
    return time[:16].replace("T", " ")


def _settings(numbers: Numbers) -> str:
    of = numbers["settings"]
    rows = []
    for name in dict.fromkeys(key for each in of.values() for key in each["settings"]):
        values = [str(each["settings"].get(name)) for each in of.values()]
        rows.append((len(set(values)) == 1, name, [_cell(escape(value)) for value in values]))
    head = ["", *(escape(name) for name in of)]
    facts = list(dict.fromkeys(key for each in of.values() for key in each["facts"]))
    about = [("fingerprint", [_cell(escape(each["fingerprint"][:12]), "text") for each in of.values()])]
    about += [("items", [_cell(f"{each['items']:,}", "text") for each in of.values()])]
    about += [
        (escape(key), [_cell(escape(_shown(each["facts"].get(key))), "text") for each in of.values()]) for key in facts
    ]
    different = [(escape(name), cells) for same, name, cells in rows if not same]
    body = _table(head, about)
    if len(of) > 1:
        body += (
            f"<h3>Settings that differ</h3>{_table(head, different)}" if different else "<p>All settings are equal.</p>"
        )
    every = _table(head, [(escape(name), cells) for _, name, cells in rows])
    return f"{body}<details><summary>All settings and seeds</summary>{every}</details>"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "–" if value is None else str(value)


def _again(numbers: Numbers) -> str:
    made = numbers["made"]
    command = made["command"] or "segue.evaluate(models, test, train=train).to_html()"
    drawn = made["bootstrap"]
    return (
        f'<pre>{escape(command)}</pre><p class="quiet">Bootstrap: {drawn["draws"]:,} draws of users, seed '
        f"{drawn['seed']}. Segue {escape(made['segue'])}, Python {escape(made['python'])}, {escape(made['at'])}. Every "
        "number of this page is in the report.json beside it.</p>"
    )
