"""`--log`: what is written is read back by the readers of the libraries, and no writer costs a training."""

import json

import pytest
from typer.testing import CliRunner

from segue.cli import app as cli
from segue.errors import ArgumentError
from segue.training import run_log
from segue.training.run_log import RunLog, writer_of
from segue.training.trainer import Progress

SETTINGS = {"train.seed": 3, "model.cell": "gru"}
TRIAL = {"trial": 1, "state": "complete", "ndcg@10": 0.25, "settings": {"model.width": 64}}
STOPPED = {"trial": 2, "state": "pruned", "ndcg@10": None, "settings": {"model.width": 128}}


def epoch(number, loss, ended=True):
    return Progress(number, 1, 2, loss, 100.0, 1.5, {"ndcg@10": 0.1 * (number + 1)}, ended)


def write(writer, said=None):
    """Report two epochs and two trials, as a training and a search do."""
    with RunLog(writer, (said if said is not None else []).append) as log:
        log.begin("films", SETTINGS)
        log.epoch(epoch(0, 9.0, ended=False))
        log.epoch(epoch(0, 7.0))
        log.epoch(epoch(1, 6.0))
        log.trial(TRIAL)
        log.trial(STOPPED)
        log.end({**SETTINGS, "model.width": 96, "model.depth": None}, {"model": "f00d"})


@pytest.mark.filterwarnings("ignore")  # those of MLflow are its own
def test_mlflow_has_settings_as_parameters_epochs_as_steps_and_trials_as_runs(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shop")
    said = []
    write(writer_of("mlflow"), said)
    assert said == []
    from mlflow import MlflowClient

    client = MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
    named = {run.info.run_name: run for run in runs}
    assert set(named) == {"films", "trial 1", "trial 2"}
    main = named["films"]
    assert main.data.params == {"train.seed": "3", "model.cell": "gru", "model.width": "96", "model.depth": "None"}
    assert (main.data.tags["model"], main.info.status) == ("f00d", "FINISHED")
    history = client.get_metric_history(main.info.run_id, "ndcg_at_10")
    assert [(each.step, round(each.value, 3)) for each in history] == [(1, 0.1), (2, 0.2)]
    assert [each.value for each in client.get_metric_history(main.info.run_id, "loss")] == [7.0, 6.0]
    assert named["trial 1"].data.metrics == {"ndcg_at_10": 0.25}
    assert named["trial 2"].data.metrics == {} and named["trial 2"].data.tags["state"] == "pruned"
    assert named["trial 2"].data.params == {"model.width": "128"}
    assert named["trial 1"].data.tags["mlflow.parentRunId"] == main.info.run_id


@pytest.mark.filterwarnings("ignore")  # those of TensorBoard are its own
def test_tensorboard_has_curves_and_hyperparameters(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    monkeypatch.setattr(run_log, "RUNS", tmp_path)
    write(writer_of("tensorboard"))
    (folder,) = tmp_path.iterdir()

    def read(folder):
        events = accumulator.EventAccumulator(str(folder))
        events.Reload()
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        settings = HParamsPluginData.FromString(content).session_start_info.hparams
        return events, {
            name: value.WhichOneof("kind") and getattr(value, value.WhichOneof("kind"))
            for name, value in settings.items()
        }

    events, settings = read(folder)
    assert [(each.step, round(each.value, 3)) for each in events.Scalars("ndcg_at_10")] == [(1, 0.1), (2, 0.2)]
    assert [each.value for each in events.Scalars("loss")] == [7.0, 6.0]
    assert settings == {"train.seed": 3, "model.cell": "gru", "model.width": 96, "model.depth": "None"}
    assert b"f00d" in events.Tensors("model/text_summary")[0].tensor_proto.string_val[0]
    events, settings = read(folder / "trial-1")
    assert settings == {"model.width": 64, "state": "complete"}
    assert events.Scalars("ndcg_at_10")[0].value == 0.25


def test_a_file_has_a_line_for_each_epoch_and_trial(tmp_path):
    write(writer_of(str(tmp_path / "run.jsonl")))
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [line.get("epoch", line.get("trial")) for line in lines] == [1, 2, 1, 2]
    assert lines[0] == {"epoch": 1, "loss": 7.0, "seconds": 1.5, "events_per_second": 100.0, "ndcg@10": 0.1}
    assert lines[2:] == [TRIAL, STOPPED]


class Broken:
    """Fails from its second call on, until it is mended."""

    def __init__(self):
        self.calls, self.broken = [], True

    def __getattr__(self, name):
        def call(*given, **more):
            if self.broken and self.calls:
                raise ConnectionError("the server does not answer\nand more")
            self.calls.append(name)

        return call


def test_a_server_that_does_not_answer_costs_no_training_and_gets_the_rest_when_it_is_back():
    writer, said = Broken(), []
    write(writer, said)
    first = "--log: 1 entries could not be written (ConnectionError: the server does not answer): kept"
    assert said[0].startswith(first) and "lost" in said[1] and len(said) == 2
    writer, said = Broken(), []
    with RunLog(writer, said.append) as log:
        log.begin("films", {})
        log.epoch(epoch(0, 7.0))
        log.epoch(epoch(1, 6.0))
        writer.broken = False
    assert writer.calls == ["begin", "epoch", "epoch", "end"]  # interrupted: closed all the same
    assert len(said) == 2 and said[1] == "--log: what waited is written now."


def test_what_is_missing_or_misspelt_is_named_before_the_training(tmp_path, monkeypatch):
    for word, hint in (("mlfow", 'Did you mean "mlflow"'), ("runs", "Give the file an ending")):
        with pytest.raises(ArgumentError, match=hint):
            writer_of(word)
    with pytest.raises(ArgumentError, match="--log"):
        writer_of(str(tmp_path / "no" / "run.jsonl"))
    monkeypatch.setattr(run_log, "find_spec", lambda name: None)
    for word in ("mlflow", "tensorboard"):
        found = CliRunner().invoke(cli.app, ["train", "no.csv", "-o", str(tmp_path / "m.segue"), "--log", word])
        assert found.exit_code == 1
        assert f'pip install "segue[{word}]"' in str(found.exception)
    assert writer_of(None) is None
    with RunLog(None, pytest.fail) as log:
        log.begin("films", {})
        log.end({}, {})
