"""Kafka into a store: each message once, whatever is killed in between; the broker is librdkafka's mock of one."""

import ctypes
import json
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engines import missing
from segue.cli.app import app
from segue.errors import ArgumentError, LostError, ServerError, StoreError
from segue.jobs.consume import Message, Refused, ServerSink, StoreSink, consume, event_of
from segue.jobs.kafka import KafkaSource, Topic, read_properties
from segue.serve.api.answers import EventLineOut
from segue.serve.http.problems import Problem
from segue.store.readonly import read_store
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import until

kafka = pytest.importorskip("confluent_kafka")
#: A member that died is out of its group after a second.
QUICK = {"session.timeout.ms": "1000", "heartbeat.interval.ms": "200"}
TOPICS = "plays", "dead", "clicks"


@pytest.fixture(name="broker", scope="module")
def a_producer_and_its_broker():
    """librdkafka's mock cluster, by its own functions: Python knows none that make groups gather at once."""
    names = list(Path(kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka-*"))
    if not names:
        missing("no librdkafka in the wheel of confluent_kafka")
    library, said, address = ctypes.CDLL(str(names[0])), ctypes.create_string_buffer(200), ctypes.c_void_p
    for name in ("conf_new", "new", "mock_cluster_new"):
        getattr(library, f"rd_kafka_{name}").restype = address
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    config = address(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(config, b"log_level", b"0", said, ctypes.c_size_t(200))
    cluster = address(library.rd_kafka_mock_cluster_new(address(library.rd_kafka_new(0, config, said, 200)), 1))
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    for topic in TOPICS:
        assert library.rd_kafka_mock_topic_create(cluster, topic.encode(), 4, 1) == 0
    brokers = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()
    producer = kafka.Producer({"bootstrap.servers": brokers, "log_level": 0})
    yield producer, brokers
    producer.flush(5)


def event(n, **more):
    return json.dumps({"user": f"u{n % 5}", "item": f"{n % 12:03d}", **more}).encode()


def produce(producer, topic, bodies, at=1_000_000):
    for n, body in enumerate(bodies):
        producer.produce(topic, body, key=b"k", partition=n % 4, timestamp=at + n)
    assert producer.flush(10) == 0


def read_all(broker, topic):
    with closing(
        kafka.Consumer({"bootstrap.servers": broker, "group.id": "r", "auto.offset.reset": "earliest"})
    ) as one:
        one.assign([kafka.TopicPartition(topic, n, 0) for n in range(4)])
        found, end = [], time.monotonic() + 10
        while time.monotonic() < end and not found:
            found = one.consume(100, 0.5)
        return found


class Killed(BaseException):
    """Stands for the end of the process."""


def run(source, sink, messages):
    """Consume some messages."""
    seen = []
    read = source.read

    def reading():
        found = read()
        seen.extend(found)
        return found

    source.read = reading
    end = time.monotonic() + 60
    return consume(source, sink, lambda: len(seen) >= messages or time.monotonic() > end)


def test_each_message_is_kept_once_and_bad_ones_are_sent_on(broker, tmp_path, caplog):
    producer, brokers = broker
    good = [event(n, **({"id": f"own-{n}", "time": n + 1} if n % 3 == 0 else {})) for n in range(40)]
    bad = [b"{", b"", event(1, colour=1), event(2, time=9e9), event(3, id="own-0", time=1)]
    produce(producer, "plays", good + bad)
    topic = Topic("plays", "").of(f"kafka://{brokers}/plays")
    with closing(SqliteStore(tmp_path / "s.db")) as store:
        sink = StoreSink(store)
        with closing(KafkaSource(topic, group="g", dead_letters="dead", properties=QUICK)) as source:

            def killed():
                raise Killed

            source.acknowledge = killed  # all is in the store, and the broker does not know
            with pytest.raises(Killed):
                run(source, sink, 45)
        kept = len(store.log())
        assert kept > 0
        with closing(KafkaSource(topic, group="g", dead_letters="dead", properties=QUICK)) as source:
            done = run(source, sink, 45)
        assert (done.kept, done.refused) == (40, 5)
        events = store.log()
        assert len(events) == 40 and {one.id for one in events} >= {"own-0", "plays/1/0", "plays/3/1"}
        of = {one.id: one for one in events}
        assert of["own-3"].time == 4_000_000 and of["plays/1/0"].time == 1_000_001_000
        assert all(one.time is not None for one in events)
        with closing(KafkaSource(topic, group="g", properties=QUICK)) as source:
            end = time.monotonic() + 0.5
            assert not consume(source, sink, lambda: time.monotonic() > end).kept
    dead = {
        dict(one.headers())["segue-place"]: (one.value() or b"", one.key(), dict(one.headers()))
        for one in read_all(brokers, "dead")
    }
    assert sorted(body for body, _, _ in dead.values()) == sorted(bad)
    assert all(key == b"k" and headers["segue-error"] for _, key, headers in dead.values())
    assert "plays/0/10: refused, malformed" in caplog.text and "own-0" not in caplog.text


def consumer(folder, brokers):
    lines = ["# quick", *(f"{name}={value}" for name, value in QUICK.items())]
    (folder / "kafka.properties").write_text("\n".join(lines))
    words = [
        "consume",
        f"kafka://{brokers}/clicks",
        "--store",
        folder / "k.db",
        "--properties",
        folder / "kafka.properties",
    ]
    with (folder / "log").open("a") as log:
        return subprocess.Popen([sys.executable, "-m", "segue", *map(str, words), "--json"], stdout=log, stderr=log)


def test_a_kill_loses_nothing_and_repeats_nothing_and_a_signal_stops_in_order(broker, tmp_path):
    producer, brokers = broker

    def kept():
        with closing(read_store(tmp_path / "k.db")) as store:
            return store.log(limit=1_000_000)

    SqliteStore(tmp_path / "k.db").close()
    produce(producer, "clicks", [event(n) for n in range(2000)])
    process = consumer(tmp_path, brokers)
    while not kept():
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.01)
    process.kill()
    process.wait()
    first = kept()
    produce(producer, "clicks", [event(n) for n in range(400)])
    process = consumer(tmp_path, brokers)
    until(lambda: len(kept()) == 2400 or process.poll() is not None, seconds=60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    events = kept()
    assert events[: len(first)] == first and 0 < len(first) < 2400
    assert sorted(one.id for one in events) == sorted(f"clicks/{part}/{n}" for part in range(4) for n in range(600))
    for part in range(4):
        offsets = [int(one.id.split("/")[2]) for one in events if one.id.startswith(f"clicks/{part}/")]
        assert offsets == list(range(600))
    said = (tmp_path / "log").read_text()
    assert "stopped by SIGTERM" in said and json.loads(said.splitlines()[-2])["refused"] == 0


class Scripted:
    """A client that answers as it is told to."""

    def __init__(self, *answers):
        self.answers, self.sent = list(answers), []

    def send(self, request):
        self.sent.append(request.body)
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


class Given:
    """A source of some messages."""

    def __init__(self, *bodies):
        self.messages = [Message(f"t/0/{n}", body, 5) for n, body in enumerate(bodies)]
        self.refused, self.acknowledged = [], 0

    def read(self):
        found, self.messages = self.messages, []
        return found

    def refuse(self, refused):
        self.refused += refused

    def acknowledge(self):
        self.acknowledged += 1


def problem(status, kind):
    return EventLineOut(error=Problem(f"urn:segue:problem:{kind}", "", status, "said", ""))


def test_what_a_server_does_not_answer_is_sent_again_and_what_it_refuses_is_not(monkeypatch, caplog):
    monkeypatch.setattr("segue.jobs.consume.FIRST", 0.01)
    kept, busy = EventLineOut(seq=1, duplicate=False), problem(503, "unavailable")
    client = Scripted(ServerError("no answer"), [kept, busy], LostError("gone"), [kept, problem(410, "erased")])
    source = Given(event(1), b"no", event(2))
    done = consume(source, ServerSink(client), lambda: source.acknowledged > 0)
    assert (done.kept, done.refused, len(set(client.sent)), len(client.sent)) == (1, 2, 1, 4)
    assert [(message.place, why.why) for message, why in source.refused] == [
        ("t/0/1", "malformed"),
        ("t/0/2", "erased"),
    ]
    assert "tried again" in caplog.text and "t/0/2: refused, erased" in caplog.text

    source, stops = Given(event(1)), iter([False, True, True])
    assert consume(source, ServerSink(Scripted(ServerError("no"))), lambda: next(stops)).kept == 0
    assert not source.acknowledged  # it comes again


def test_what_the_verb_cannot_do_is_said(tmp_path, monkeypatch):
    def said(*words):
        done = CliRunner().invoke(app, ["consume", *map(str, words)])
        assert done.exit_code == 1
        return str(done.exception)

    for topic in ("plays", "kafka://host", "kafka://me:secret@host/plays", "http://host/plays", "kafka://host/a/b"):
        assert "topic: expected kafka://HOST:PORT/TOPIC" in (text := said(topic, "--store", tmp_path / "a.db"))
        assert "secret" not in text
    assert "exactly one of --store and --server" in said("kafka://h/t")
    assert "none: expected a file with a key" in said(
        "kafka://h/t", "--server", "http://h", "--key-file", tmp_path / "none"
    )
    (tmp_path / "p").write_text("a=1\nb\n")
    with pytest.raises(ArgumentError, match=r"p, line 2: expected key=value"):
        read_properties(tmp_path / "p")
    with pytest.raises(ArgumentError, match=r"kafka settings: No such configuration property"):
        KafkaSource(Topic("h", "t"), group="g", properties={"colour": "red"})
    monkeypatch.setattr("segue.jobs.kafka.ANSWER", 0.2)
    with pytest.raises(StoreError, match=r"kafka 127\.0\.0\.1:9: expected brokers that answer"):
        KafkaSource(Topic("127.0.0.1:9", "t"), group="g", properties={"log_level": "0"})
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(StoreError, match=r"segue\[kafka\]"):
        KafkaSource(Topic("h", "t"), group="g")


def test_a_message_says_an_event_as_http_takes_it():
    assert isinstance(event_of(Message("t/0/1", b"[]")), Refused)
    made = event_of(Message("t/0/1", event(1, id="a", time="2020-01-01"), 7))
    assert (made.id, made.time.micros) == ("a", 1_577_836_800_000_000)
    assert event_of(Message("t/0/1", event(1))).time is None
    assert event_of(Message("t/0/1", bytes(1 << 26))).why == "too-large"
