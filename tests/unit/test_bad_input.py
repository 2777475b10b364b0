"""Logs and settings that cannot work say so, in words that help."""

import re
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.cli import app as cli
from segue.config import OLD_NAMES, read_config, setting_names
from segue.data.log.sources import Source
from segue.data.sequences.vocabulary import Vocabulary
from segue.errors import ArgumentError, ColumnError, ConfigError, DataError, EvaluationError, SegueError, TrainingError
from segue.jobs.event_frames import LogEvents
from tests_support import small_rater, small_recommender

CONTEXT = segue.Reading(context=("context",))


def table(users, items, times=None):
    frame = pl.DataFrame({"user": users, "item": items})
    return frame.with_columns(time=pl.Series(times or list(range(len(users)))))


def test_one_item_only_and_no_user_with_two_events():
    with pytest.raises(
        DataError, match="expected at least two items and a user with two events, found 1 item and 2 events"
    ):
        segue.train(segue.read_events(table(["a", "a"], ["x", "x"])))
    with pytest.raises(DataError, match="2 items and 1 event of the busiest user"):
        segue.train(segue.read_events(table(["a", "b"], ["x", "y"])))


def test_one_user_trains():
    log = segue.read_events(table(["a"] * 12, ["x", "y", "z"] * 4))
    rec = segue.train(log, config={"model.width": 4, "train.epochs": 1})
    assert {line.item for line in rec.recommend(rec.start())} == {"x", "y", "z"}


def test_all_at_one_time_trains_in_file_order_and_cannot_be_split_by_time():
    log = segue.read_events(table(["a", "b"] * 8, list("xyzw") * 4, [7] * 16))
    assert segue.train(log, config={"model.width": 4, "train.epochs": 1}).items
    with pytest.raises(DataError, match="last:1"):
        segue.split_by_time(log)


@pytest.mark.parametrize(("old", "new"), list(OLD_NAMES.items()))
def test_an_old_name_of_a_setting_is_refused_with_the_new_one(run, old, new, tmp_path):
    assert new in setting_names() and old not in setting_names()
    file = tmp_path / "settings.toml"
    file.write_text(f"[{old.partition('.')[0]}]\n{old.partition('.')[2]} = 1\n")
    log, said = tmp_path / "log.csv", f"config {old}: this setting is now {new}."
    log.write_text("user,item\na,x\na,y\n")
    for given in (["--set", f"{old}=1"], ["--config", file]):
        code, _, errors = run("train", log, "-o", tmp_path / "m.segue", *given)
        assert code == 1 and said in errors
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        segue.train(log, config={old: 1})


def test_a_misspelt_setting_names_the_nearest():
    with pytest.raises(ConfigError, match=r"config train\.sead: no such setting. Did you mean train\.seed\?"):
        segue.configure({"train.sead": 1})
    with pytest.raises(ConfigError, match=r"config model\.dropout: input should be less than 1, came '1\.5'"):
        segue.configure({"model.dropout": "1.5"})


def test_a_loss_that_is_not_a_number_stops_the_run():
    log = segue.read_events(table(["a", "b"] * 100, list("xyzw") * 50))
    with pytest.raises(TrainingError, match=r"expected a finite loss, came nan.*Lower train\.learning_rate"):
        segue.train(log, config={"model.width": 4, "train.learning_rate": 1e30, "train.clip": 1e30})


def test_rows_that_were_learnt_are_refused():
    log = segue.read_events(table(["a"] * 12, ["x", "y", "z"] * 4))
    rec = segue.train(log, config={"model.width": 4, "train.epochs": 1})
    with pytest.raises(EvaluationError, match="learnt"):
        segue.evaluate(rec, log)


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr("sys.argv", ["segue", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return call


def test_command_line_from_log_to_list(run, tmp_path):
    log = tmp_path / "log.csv"
    shop = pl.DataFrame(
        [(f"u{u}", f"i{(u + t) % 6:02d}", u * 10 + t) for u in range(30) for t in range(6)],
        schema=["user", "item", "time"],
        orient="row",
    )
    shop.write_csv(log)
    shop.select(pl.col("item").unique()).with_columns(title="film " + pl.col("item")).write_csv(tmp_path / "items.csv")
    model = tmp_path / "b.segue"
    trained = run("train", log, "-o", model, "--items", tmp_path / "items.csv", "--hold-out", "last:1",
                  "--set", "model.width=8", "--set", "train.epochs=2")  # fmt: skip
    assert trained[0] == 0, trained
    assert "user = user" in trained[2]
    code, out, err = run("recommend", model, "--history", "i01,nope", "--json", "-k", 2)
    assert code == 0
    assert '"title": "film i' in out
    assert '"unknown": ["nope"]' in out
    code, out, err = run("recommend", model, "--user", "u3", "--events", log)
    assert (code, err) == (0, "")
    code, out, err = run("evaluate", model, log)
    assert code == 0
    assert "decayed Markov" in out
    assert "ties count against the model" in out
    assert "Time of each request: unknown" in out
    assert "Time of each request: that of the event" in run("evaluate", model, log, "--at-event")[1]
    assert run("evaluate", model, log, "--at-event", "--task", "rating")[0] == 2
    code, out, err = run("evaluate", model, log, "--time-col", "none")
    assert code in (0, 1)
    assert run("info", model)[0] == 0
    assert run("inspect", log, "--json")[0] == 0
    other = tmp_path / "other.csv"
    shop.with_columns(item=pl.lit("i00")).write_csv(other)
    code, out, err = run("evaluate", model, other)
    assert (code, out) == (1, "")
    assert "whose held-out rows differ" in err


def test_command_line_bad_input_is_a_message_and_exit_1(run, tmp_path):
    code, out, err = run("inspect", tmp_path / "no.csv")
    assert (code, out) == (1, "")
    assert err.startswith("segue: ")
    assert "no.csv" in err
    assert "Traceback" not in err
    assert run("train")[0] == 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("ids") / "ids.segue"
    small_recommender().save(path)
    return path


@pytest.mark.parametrize("plan", [(), ("--plan", 2)])
def test_a_question_about_what_was_not_learnt_is_an_error(run, model, plan):
    asked = ("recommend", model, "--history", "001", *plan)
    for name, option in [("device", ("--context", "device=tv")), ("type", ("--type", "buy"))]:
        code, out, err = run(*asked, *option)
        assert (code, out) == (1, "")
        assert f'request: expected columns among none, came "{name}". Leave it out' in err
    assert run(*asked)[0] == 0


def test_a_type_that_was_learnt_takes_any_value_and_the_command_line_says_which_say_nothing(run, tmp_path):
    log = table(["a", "b"] * 8, list("xyzw") * 4).with_columns(type=pl.Series(["view", "buy", "buy", "view"] * 4))
    rec = segue.train(segue.read_events(log), config={"model.width": 4, "train.epochs": 1})
    assert rec.recommend(rec.start(), type="never met")
    with pytest.raises(ArgumentError, match=r'expected columns among type, came "device"'):
        rec.recommend(rec.start(), context={"device": "tv"})
    rec.save(tmp_path / "typed.segue")
    for type, said in [("buyy", "(--type): type=buyy"), ("buy", "")]:
        code, out, err = run("recommend", tmp_path / "typed.segue", "--history", "x", "--type", type)
        assert code == 0 and out
        assert err.strip().endswith(said) and bool(err) == bool(said)


@pytest.mark.parametrize(
    "verb",
    [
        ("train", "no.csv", "-o"),
        ("recommend", "no.segue", "--all", "--events", "no.csv", "-o"),
        ("add-items", "no.segue", "no.csv", "-o"),
        ("convert", "no.segue", "-o"),
        ("export", "--store", "no.db", "-o"),
        ("insight", "-o"),
        ("retrain", "--store", "no.db", "--models"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_before_all_else(run, tmp_path, verb):
    closed = tmp_path / "closed"
    closed.mkdir()
    (tmp_path / "file").touch()
    found = [tmp_path / "file" / "x"] if verb[0] != "retrain" else [tmp_path / "file", tmp_path / "none"]
    found += [] if verb[0] in ("insight", "retrain") else [closed, tmp_path / "none" / "x"]
    for place in found:
        code, out, err = run(*verb, place)
        assert (code, out) == (1, "")
        assert f"{verb[-1]} {place}: expected " in err.replace("\n", "")
    with pytest.MonkeyPatch.context() as patch:  # a superuser may write anywhere
        patch.setattr("tempfile.TemporaryFile", mock.Mock(side_effect=PermissionError(13, "Permission denied")))
        code, out, err = run(*verb, closed if verb[0] == "retrain" else closed / "x")
    assert (code, out) == (1, "")
    assert f"can be written to, {closed} cannot: Permission denied." in err
    assert not list(closed.iterdir())


@pytest.mark.parametrize("verb", [("export", "--store", "no.db"), ("recommend", "no", "--all", "--events", "no.csv")])
def test_parquet_is_not_written_under_another_name(run, tmp_path, verb):
    code, out, err = run(*verb, "-o", tmp_path / "lists.csv")
    assert (code, out) == (1, "")
    assert "lists.csv: expected a name that ends in .parquet" in err.replace("\n", "")


def test_a_log_that_was_not_read_is_refused_with_the_way_to_read_it():
    rec, rater, read = small_recommender(), small_rater(), segue.read_events(table(["a"], ["x"]))
    calls = {
        "train": segue.train,
        "inspect": segue.inspect,
        "split_by_time": segue.split_by_time,
        "split_last": segue.split_last,
        "split_users": segue.split_users,
        "split_items": segue.split_items,
        "hold_out": lambda log: segue.hold_out(log, "last:1"),
        "windows": segue.windows,
        "encode": rec.encode,
        "evaluate": lambda log: segue.evaluate(rec, log),
        "evaluate ": lambda log: segue.evaluate(rec, read, train=log),
        "evaluate_ratings": lambda log: segue.evaluate_ratings(rater, log),
    }
    for name, call in calls.items():
        for log in ("log.csv", Path("log.csv"), table(["a"], ["x"]), None):
            if log is None and name == "evaluate ":
                continue
            why = rf"^{name.strip()}: expected events, came {type(log).__name__}\. Read the log first: segue\.read"
            with pytest.raises(ArgumentError, match=why):
                call(log)


def test_a_folder_is_no_model(run, tmp_path):
    assert run("info", tmp_path)[2] == f"segue: {tmp_path}: expected a model, came a folder. Name a model in it.\n"


def test_an_id_may_begin_with_a_dash(run, tmp_path):
    small_recommender(Vocabulary(pl.Series(["-2", "a", "-k", "b"]))).save(tmp_path / "b.segue")
    for asked in [("-2", "-k", 1), ("-k", 1, "--", "-k")]:
        code, out, err = run("similar", tmp_path / "b.segue", *asked)
        assert (code, len(out.splitlines()), err) == (0, 1, "")
    code, out, err = run("recommend", tmp_path / "b.segue", "--history", "-2,-k")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("look", "-o", "figures"), "segue look: this command is now segue insight."),
        (("look", "--help"), "segue look: this command is now segue insight."),
        (("retrain", "--store", "s.db", "--bundles", "m"), "--bundles: this option is now --models."),
        (("serve", "m.segue", "--bundles=m"), "--bundles: this option is now --models."),
        (("insight", "-o", "f", "--passes", 3), "--passes: this option is now --epochs."),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(run, words, why):
    code, out, err = run(*words)
    assert (code, out) == (2, "") and why in err


def test_no_old_name_is_in_use():
    names = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    assert not names & set(cli.RENAMED_VERBS) and set(cli.RENAMED_VERBS.values()) <= names


def test_every_verb_has_help():
    for command in cli.app.registered_commands:
        assert CliRunner().invoke(cli.app, [command.name or command.callback.__name__, "--help"]).exit_code == 0


def test_all_errors_are_one_family():
    assert issubclass(TrainingError, SegueError)


def test_an_interrupted_run_says_where_it_is_kept_and_how_it_goes_on(run, tmp_path, monkeypatch):
    out, log = tmp_path / "m.segue", tmp_path / "log.csv"
    table(["a", "b"] * 4, list("xyzw") * 2).write_csv(log)

    def interrupted(*_, checkpoint, **__):
        checkpoint.write_bytes(b"a run")
        raise KeyboardInterrupt

    monkeypatch.setattr(segue, "train", interrupted)
    code, _, err = run("train", log, "-o", out)
    assert code == 130
    assert f"Interrupted: {out}.checkpoint keeps the run so far; add --resume" in err


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe\x00", "not TOML"),
        (b"train = " + b"9" * 5_000, "not TOML"),
        (b"#" * (1 << 21), "came more than 1,048,576 bytes"),
        (None, "cannot be read"),
    ],
    ids=["deep", "no text", "a long number", "long", "a folder"],
)
def test_a_file_of_settings_that_is_none_is_refused(tmp_path, content, why):
    path = tmp_path / "settings.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"settings\.toml: .*{why}"):
        read_config(path)


def test_a_reader_that_gives_up_is_a_message_and_a_context_without_end_is_no_json():
    with pytest.raises(DataError, match="Polars says: index out of bounds"), Source("log", pl.LazyFrame()).explained():
        raise pl.exceptions.PanicException("index out of bounds")
    for text in ("[" * 100_000, '{"a": ' * 100_000, "7"):
        log = segue.read_events(table(["a"], ["x"]).with_columns(context=pl.lit(text)), reading=CONTEXT)
        with pytest.raises(ColumnError, match='expected the column "context" to hold objects of JSON'):
            list(LogEvents(log))
