"""What `deploy/` says exists: options, routes, metrics, files; and Kubernetes would take the manifests."""

import json
import re
import shlex
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from prometheus_client import generate_latest
from typer.main import get_command

from segue.cli import app as cli
from segue.serve.api.health import OPERATIONS
from segue.serve.http.metrics import Metrics
from segue.serve.ranking.types import TrendStatus

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS = [
    document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
DASHBOARD = json.loads((DEPLOY / "grafana" / "segue.json").read_text())
#: The release of Kubernetes whose schemas the manifests have to follow.
RELEASE = "1.34"


def metric_names():
    """Return the names of all series that a server shows, and the labels of each."""
    sums = {"n": 1, "recall@10": 0.5, "mrr@10": 0.5, "log_loss": 1.0}
    trends = TrendStatus(3600.0, 1, True, 0.0, 1, 1, 1)
    metrics = Metrics(lambda: {"all": {"": sums}}, faults=lambda: {"thread": 1}, trends=lambda: trends)
    metrics.request("GET", "/healthz", 200, 0.1)
    found = {}
    for line in generate_latest(metrics.registry).decode().splitlines():
        if not line.startswith("#"):
            name, _, labels = line.partition("{") if "{" in line else line.partition(" ")
            found.setdefault(name, {"worker", "instance"}).update(re.findall(r'(\w+)="', labels))
    return found


def containers():
    """Return each container with the pod that it is in."""
    pods = [one["spec"].get("template") or one["spec"].get("jobTemplate", {}).get("spec", {}).get("template")
            for one in MANIFESTS]  # fmt: skip
    return [(container, pod["spec"]) for pod in pods if pod for container in pod["spec"]["containers"]]


def unknown_options(words):
    """Return the options of a command of `segue` that it does not have."""
    verb = get_command(cli.app).commands[words[1]]
    known = {name for parameter in verb.params for name in parameter.opts}
    return [word for word in words if word.startswith("--") and word not in known]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_would_take_each_manifest(manifest):
    kubernetes_validate.validate(manifest, RELEASE, strict=True)


def test_this_way_of_looking_sees_a_word_that_kubernetes_does_not_know():
    wrong = {**MANIFESTS[0], "spec": {**MANIFESTS[0]["spec"], "accessMode": ["ReadWriteMany"]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASE, strict=True)


def test_commands_and_routes_of_the_manifests_exist():
    routes = {operation.path for operation in OPERATIONS}
    assert len(containers()) == 2
    for container, _ in containers():
        words = [*container["command"], *container["args"]]
        words = shlex.split(words[2].partition(";")[0]) if words[0] == "sh" else words
        assert words[0] == "segue" and unknown_options(words) == []
        probes = [container[kind]["httpGet"] for kind in container if kind.endswith("Probe")]
        assert all(probe["path"] in routes for probe in probes)
        ports = {port["name"] for port in container.get("ports", [])}
        assert {probe["port"] for probe in probes} <= ports
    assert unknown_options(["segue", "serve", "--worker"]) == ["--worker"]


def test_names_within_the_manifests_meet():
    named = {(one["kind"], one["metadata"]["name"]): one for one in MANIFESTS}
    claims = {name for kind, name in named if kind == "PersistentVolumeClaim"}
    for container, pod in containers():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        assert {
            v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v
        } <= claims
        assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    labels = named["Deployment", "segue"]["spec"]["template"]["metadata"]["labels"]
    assert named["Service", "segue"]["spec"]["selector"] == labels
    assert named["PodDisruptionBudget", "segue"]["spec"]["selector"]["matchLabels"] == labels
    scaled = named["HorizontalPodAutoscaler", "segue"]["spec"]
    assert (scaled["scaleTargetRef"]["kind"], scaled["scaleTargetRef"]["name"]) in named
    assert {each["pods"]["metric"]["name"] for each in scaled["metrics"]} <= metric_names().keys()


def test_each_metric_and_label_of_the_dashboard_exists():
    known = metric_names()
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    used = {name for text in expressions for name in re.findall(r"\bsegue_\w+", text)}
    assert used and used <= known.keys(), used - known.keys()
    for text in expressions:
        labels = set(re.findall(r'(\w+)=~?"', text))
        labels |= {label for group in re.findall(r"by \(([^)]*)\)", text) for label in group.split(", ")}
        names = re.findall(r"\bsegue_\w+", text)
        assert labels <= set.union(*(known[name] for name in names)) | {"le"}, text
    shown = {name for name in known if not name.endswith(("_created", "_count", "_sum"))}
    assert {name for name in shown if name not in used} <= {"segue_batch_requests_bucket", "segue_live_events"}


def test_the_image_has_no_compiler_and_no_rights_in_its_last_stage():
    stages = re.split(r"^FROM ", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    last = stages[-1]
    assert len(stages) == 2 and not re.search(r"gcc|apt-get|pip install", last)
    user = re.search(r"^USER (\d+)$", last, re.MULTILINE)
    assert user and {pod["securityContext"]["runAsUser"] for _, pod in containers()} == {int(user[1])}
    words = json.loads(re.search(r"^CMD (\[.*?\])", last.replace("\\\n", ""), re.MULTILINE)[1])
    assert unknown_options(words) == []
    extras = re.search(r'"\.\[(.*?)\]"', stages[0])[1].split(",")
    known = re.findall(r"^(\w+) = \[", (DEPLOY.parent / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(extras) <= set(known)
