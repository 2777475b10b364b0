"""A client generated from the description of all routes, on a real server: it reads all answers and refusals."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from engines import require
from served import Server, model

#: What the generated package is asked to do, by the Python that the generator lives in.
USE = """
import json, sys
from made import Client
from made.api.events import ingest_events
from made.api.lists import recommend, recommend_by_query, similar_items
from made.api.admin import get_online_metrics, get_status
from made.api.users import erase_event, erase_event_by_seq, erase_user, get_user, readmit_user
from made.models import EventBatch, EventIn, ItemList, Problem, RecommendIn

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
found = {}

def refused(name, status, answer):
    assert answer.status_code == status and isinstance(answer.parsed, Problem), answer
    problem = answer.parsed
    assert problem.status == status and problem.detail and problem.title, problem
    assert not problem.additional_properties, problem
    found[name] = problem.detail

told = ingest_events.sync(client=client, body=EventIn(user="ann", item="003", id="a"), recommend=3)
assert [event.id for event in told.events] == ["a"] and len(told.items) == 3 and not told.additional_properties
both = EventBatch(events=[EventIn(user="ann", item="004", id="b"), EventIn(user="bob", item="004")])
assert ingest_events.sync(client=client, body=both).duplicates == 0
one = recommend.sync(client=client, body=RecommendIn(user="ann", k=5))
two = recommend_by_query.sync(client=client, user="ann", k=5)
assert isinstance(one, ItemList) and [line.item for line in one.items] == [line.item for line in two.items]
assert len(one.items) == 5 and one.count == 2 and not one.additional_properties
user = get_user.sync("ann", client=client)
assert [event.item for event in user.events] == ["004", "003"] and not user.additional_properties
assert get_online_metrics.sync(client=client).all_.additional_properties["all"].n == 3
assert get_status.sync(client=client).ready.ready

refused("409", 409, ingest_events.sync_detailed(client=client, body=EventIn(user="ann", item="005", id="a")))
refused("404", 404, similar_items.sync_detailed("none", client=client))
invalid = ingest_events.sync_detailed(client=client, body=EventIn(user="ann", item=""))
refused("422", 422, invalid)
assert invalid.parsed.errors[0].where == "body.item"
refused("404 of an event", 404, erase_event.sync_detailed("ann", "none", client=client))

for already in (False, True):
    assert erase_event.sync("ann", "a", client=client).already is already
    assert erase_event_by_seq.sync("ann", 2, client=client).already is already
    assert erase_user.sync("bob", client=client).already is already
refused("410", 410, recommend_by_query.sync_detailed(client=client, user="bob"))
assert readmit_user.sync("bob", client=client).blocked is False
assert recommend_by_query.sync(client=client, user="bob").count == 0
print(json.dumps(found))
"""


@pytest.fixture(name="server", scope="module")
def a_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    model(folder / "b.segue")
    server = Server(folder)
    yield server
    server.stop()


def test_a_generated_client_reads_every_answer(server, tmp_path):
    program = Path(require("openapi-python-client")).resolve()
    (tmp_path / "openapi.json").write_text(json.dumps(server.call("GET", "/openapi.json")[1]))
    (tmp_path / "use.py").write_text(USE)
    environment = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}  # it runs its own ruff
    generate = [program, "generate", "--path", "openapi.json", "--output-path", "made", "--meta", "none"]
    made = run([*generate, "--fail-on-warning"], tmp_path, environment)
    assert "arning" not in made.stdout + made.stderr
    use = [program.parent / "python", "-W", "error", "use.py", server.url]
    told = json.loads(run(use, tmp_path, environment | {"PYTHONPATH": ""}).stdout)
    assert {name: detail.partition(":")[0] for name, detail in told.items()} == {
        "409": 'event id "a"', "404": "item", "422": "body.item", "404 of an event": "event", "410": "user",
    }  # fmt: skip


def run(command, folder, environment):
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
