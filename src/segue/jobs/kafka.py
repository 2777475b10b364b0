"""A Kafka topic as a source of messages.

Knows: addresses of topics, offsets, the topic for bad messages. Does not know: events (`consume`).
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segue.errors import ArgumentError, StoreError
from segue.jobs.consume import Message, Refused

logger = logging.getLogger("segue.consume")

#: Messages that are read at once, and the seconds that the first of them is waited for.
MESSAGES, PATIENCE = 1000, 0.2
#: Seconds that a broker may take to answer, and to take a bad message.
ANSWER = 30.0
#: Seconds for which an error of a kind is not logged again.
QUIET = 60.0


class Topic(NamedTuple):
    """Brokers, HOST:PORT with commas between them, and the name of a topic."""

    brokers: str
    name: str

    @classmethod
    def of(cls, address: str) -> "Topic":
        """Return what an address says.

        Raises:
            ArgumentError: it is none.

        Example:
            >>> Topic.of("kafka://broker1:9092,broker2:9092/plays")
            Topic(brokers='broker1:9092,broker2:9092', name='plays')
        """
        kind, mark, rest = address.partition("://")
        brokers, _, name = rest.partition("/")
        if kind.lower() != "kafka" or not mark or not brokers or not name or set(rest) & set("@?#") or "/" in name:
            raise ArgumentError(
                "topic: expected kafka://HOST:PORT/TOPIC, several brokers with commas between them, came something "
                "else. User and password belong into the file of --properties."
            )
        return cls(brokers, name)


def read_properties(path: Path) -> dict[str, str]:
    """Return the settings of a file with key=value on each line, as Kafka's own tools take it.

    Raises:
        ArgumentError: there is no such file, or a line says something else.
    """
    found = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ArgumentError(f"{path}: expected a file of properties ({type(error).__name__}). Check it.") from None
    for number, line in enumerate(lines, 1):
        name, mark, value = line.partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not mark:
            raise ArgumentError(f"{path}, line {number}: expected key=value, came something else. Check it.")
        found[name.strip()] = value.strip()
    return found


def _log_errors() -> Callable[[Any], None]:
    """Return what logs errors of a client, each kind once in a while: a lost broker is reported anew each time."""
    logged: dict[int, float] = {}

    def log(error: Any) -> None:
        now = time.monotonic()
        if now - logged.get(error.code(), -QUIET) >= QUIET:
            logged[error.code()] = now
            logger.error("kafka: %s", error.str())

    return log


class KafkaSource:
    """The messages of a topic, shared among all consumers of a group.

    Offsets are committed by `acknowledge` alone. A group without offsets begins at the first message.

    Args:
        topic: to be read.
        group: of consumers that share the topic.
        dead_letters: the topic that gets bad messages; None gets none.
        properties: further settings of librdkafka, such as those of TLS and SASL.

    Raises:
        ArgumentError: a setting is unknown.
        StoreError: the extra is missing, no broker answers, or there is no such topic.
    """

    def __init__(
        self, topic: Topic, *, group: str, dead_letters: str | None = None, properties: Mapping[str, str] | None = None
    ) -> None:
        try:
            import confluent_kafka
        except ImportError:
            raise StoreError(
                "kafka: expected the extra for it, but confluent_kafka is not installed. "
                'Run: pip install "segue[kafka]"'
            ) from None
        shared = {"bootstrap.servers": topic.brokers, "log_level": 0, "error_cb": _log_errors(), **(properties or {})}
        reading = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        self._kafka: Any = confluent_kafka
        self._group, self._dead_letters = group, dead_letters
        self._ends: dict[tuple[str, int], int] = {}
        self._raw: dict[str, Any] = {}
        try:
            self._consumer = confluent_kafka.Consumer({**shared, **reading})
            # A bad message is sent once: a try again of the client does not double it.
            self._producer = confluent_kafka.Producer({**shared, "enable.idempotence": True}) if dead_letters else None
            self._check(topic)
        except confluent_kafka.KafkaException as error:
            raise self._error(topic, error) from None
        self._consumer.subscribe([topic.name])

    def _check(self, topic: Topic) -> None:
        known = self._consumer.list_topics(topic.name, timeout=ANSWER).topics[topic.name]
        if known.error is not None:
            raise StoreError(f"kafka topic {topic.name}: expected one that can be read, {known.error.str()}. Make it.")

    def _error(self, topic: Topic, error: Any) -> Exception:
        said = error.args[0]
        if said.code() == self._kafka.KafkaError._INVALID_ARG:
            return ArgumentError(f"kafka settings: {said.str()} Check the file of --properties.")
        return StoreError(f"kafka {topic.brokers}: expected brokers that answer, {said.str()}. Check the address.")

    def read(self) -> Sequence[Message]:
        """Return the next messages; none if none come for a moment."""
        found = []
        came: Iterable[Any] = self._consumer.consume(MESSAGES, PATIENCE)
        for one in came:
            if (error := one.error()) is not None:
                if error.fatal():
                    raise StoreError(f"kafka: {error.str()}. Start it again.")
                logger.error("kafka: %s", error.str())
                continue
            place = f"{one.topic()}/{one.partition()}/{one.offset()}"
            kind, at = one.timestamp()
            self._ends[one.topic(), one.partition()] = one.offset() + 1
            self._raw[place] = one
            sent = None if kind == self._kafka.TIMESTAMP_NOT_AVAILABLE else at * 1000
            found.append(Message(place, one.value() or b"", sent))
        return found

    def refuse(self, refused: Iterable[tuple[Message, Refused]]) -> None:
        """Send bad messages to the topic for them, as they came, with headers that say where from and why.

        Raises:
            StoreError: the topic did not take them.
        """
        if self._producer is None or self._dead_letters is None:
            return
        failed: list[Any] = []

        def delivered(error: Any, _: object) -> None:
            if error is not None:
                failed.append(error)

        for message, why in refused:
            raw = self._raw[message.place]
            headers = [*(raw.headers() or ()), ("segue-place", message.place), ("segue-error", why.detail)]
            self._producer.produce(
                self._dead_letters, raw.value(), raw.key(), headers=headers, on_delivery=delivered
            )  # fmt: skip
        if self._producer.flush(ANSWER) or failed:
            said = failed[0].str() if failed else "it did not answer"
            raise StoreError(f"kafka topic {self._dead_letters}: expected to take bad messages, {said}.")

    def acknowledge(self) -> None:
        """Commit the offsets of all messages that were read.

        Where that fails, as after another consumer took over, the messages come again; their events count once.
        """
        part = self._kafka.TopicPartition
        ends = [part(topic, number, offset) for (topic, number), offset in self._ends.items()]
        self._ends, self._raw = {}, {}
        try:
            self._consumer.commit(offsets=ends, asynchronous=False)
        except self._kafka.KafkaException as error:
            logger.warning("kafka group %s: offsets not committed, %s", self._group, error.args[0].str())

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
