"""Events in: `POST /v1/events`.

Knows: how a request names events. Does not know: how they are kept.
"""

from dataclasses import replace

from segue.recommend.lists.options import ListOptions
from segue.serve.api.answers import EventLineOut, Ingested
from segue.serve.api.list_options import options_of, unseen
from segue.serve.api.scenarios import with_origin, with_scenario
from segue.serve.api.schemas import EventBatch, EventIn, HistoryEvent, IngestHeaders, IngestQuery, RecommendIn, micros
from segue.serve.api.serializers import ingested_of
from segue.serve.http import limits
from segue.serve.http.problems import Refusal
from segue.serve.http.routing import Call, Router
from segue.serve.ranking.types import IngestRequest
from segue.store.events import Event

router = Router("events")


async def _ingest_each(call: Call, line: EventIn) -> EventLineOut:
    event = _event(line, line.id, call.context.now())
    found = await call.context.ingests.send(IngestRequest((event,), call.key.name))
    return EventLineOut(seq=found.events[0].seq, duplicate=bool(found.duplicates))


@router.route("POST", "/v1/events", "write", each=_ingest_each)
async def ingest_events(call: Call, body: EventIn | EventBatch, query: IngestQuery, headers: IngestHeaders) -> Ingested:
    """Ingest events: one, or `{"events": [...]}`, of which all are kept or none.

    The answer comes when they are on disk. An event without a time gets that of its arrival. A retry under the
    same id gets the first outcome and today's list; another body under it is refused (409). Ids are those of
    the API key that sent them. As application/x-ndjson any number of events, one on each line, gets a line each;
    one that is refused spoils no other.
    """
    arrival, key = call.context.now(), headers.idempotency_key
    if isinstance(body, EventIn):
        events: tuple[Event, ...] = (_event(body, _id(body, key), arrival),)
    elif key is None:
        events = tuple(_event(one, one.id, arrival) for one in body.events)
    else:
        raise Refusal(422, "Idempotency-Key: expected a single event, came a batch. Give each event its id.")
    if query.scenario is not None:
        return await _with_scenario(call, events, query)
    options = None if query.recommend is None else ListOptions(query.recommend)
    found = ingested_of(await call.context.ingests.send(IngestRequest(events, call.key.name, options)))
    return found if options is None else with_origin(call, found, None, events[-1].user)


async def _with_scenario(call: Call, events: tuple[Event, ...], query: IngestQuery) -> Ingested:
    """Ingest events, and return the list that a scenario gives the last event's user.

    The list of an event with an id has that id, so that a retry is the same list.
    """
    last, said = events[-1], () if query.recommend is None else ("k",)
    list_id = None if last.id is None else f"event {last.id}"[: limits.ID]
    wanted = RecommendIn(user=last.user, k=query.recommend or 10, scenario=query.scenario, list_id=list_id)
    wanted, chosen, notes = with_scenario(call, wanted, said)
    options = replace(options_of(wanted, call.context.now()), at=None)
    if wanted.exclude_events:
        mine = [event for event in events if event.user == last.user]
        options, more = await call.context.run(unseen, call.context.service, wanted, mine, options)
        notes += more
    found = await call.context.ingests.send(IngestRequest(events, call.key.name, options))
    return with_origin(call, ingested_of(found, notes), chosen, last.user)


def history_of(sent: str | HistoryEvent) -> Event:
    """Return an event of a history: an item, or more."""
    if isinstance(sent, str):
        return Event("", sent)
    return Event("", sent.item, micros(sent.time), None, sent.rating, sent.type, sent.context)


def _event(sent: EventIn, id: str | None, arrival: int) -> Event:
    """Return an event; its digest is of what was sent, so that a retry without a time is the same event."""
    at, context = micros(sent.time), sent.context
    # Without an id there is no retry to tell, so any digest will do, but for a context that cannot be kept.
    if id is None and not context:
        time = arrival if at is None else at
        return Event(sent.user, sent.item, time, None, sent.rating, sent.type, context, b"-")
    event = Event(sent.user, sent.item, at, id, sent.rating, sent.type, context)
    return event if at is not None else event.at(arrival)


def _id(sent: EventIn, key: str | None) -> str | None:
    if key is None:
        return sent.id
    plain = key[1:-1] if len(key) > 2 and key[0] == key[-1] == '"' else key
    if sent.id not in (None, plain):
        raise Refusal(422, "Idempotency-Key: expected the id of the event or none, came another. Send one of them.")
    return plain
