"""`Client` and `AsyncClient`: the same methods, one that waits and one that is awaited.

Knows: connections, keys, time limits. Does not know: routes (`calls`), errors (`exchange`).
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import wraps
from itertools import islice
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio
import httpx2

from segue.addresses import shown
from segue.client import calls
from segue.client.calls import Named, Request
from segue.client.exchange import Pause, exchange
from segue.errors import ArgumentError
from segue.serve.api.answers import BatchListOut, EventLineOut

P = ParamSpec("P")
T = TypeVar("T")

#: Lines in a request of `ingest_each` and `recommend_each`.
LINES = 1000


def _settings(url: str, key: str | None, timeout: float) -> dict[str, Any]:
    """Return the settings of a client of httpx2.

    Raises:
        ArgumentError: the address or the key cannot be one.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = httpx2.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query:
        raise ArgumentError(
            f"url: expected the address of a server, such as http://127.0.0.1:8000, came {shown(url)}. "
            "Give a key as key=, not in the address."
        )
    if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
        raise ArgumentError("key: expected one that segue keys made, came something else. Look for blanks in it.")
    return {"base_url": parsed, "timeout": timeout, "headers": {"Authorization": f"Bearer {key}"} if key else {}}


def _sent(request: Request[Any]) -> dict[str, Any]:
    """Return a request as httpx2 sends it."""
    headers = {} if request.body is None else {"Content-Type": request.media}
    return {
        "method": request.method, "url": request.path, "params": request.query, "content": request.body,
        "headers": headers,
    }  # fmt: skip


def _parts(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while part := list(islice(rest, LINES)):
        yield part


def _method(make: Callable[P, Request[T]]) -> "Callable[Concatenate[Client, P], T]":
    @wraps(make)
    def method(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.send(make(*args, **kwargs))

    return method


def _async_method(make: Callable[P, Request[T]]) -> "Callable[Concatenate[AsyncClient, P], Awaitable[T]]":
    @wraps(make)
    async def method(client: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client.send(make(*args, **kwargs))

    return method


class Client:
    """A server, as Python sees it. Threads may share it.

    Args:
        url: of the server, such as http://127.0.0.1:8000; without user and password.
        key: an API key that `segue keys` made; it is never shown, logged or named in an error.
        timeout: seconds for each attempt: to connect, and between two pieces of what is sent or comes.
        retries: how often a request is sent again, with growing pauses, where the server gave no answer or said
            that it is busy. Events have ids, so each counts once.

    Each method sends one request and raises a `SegueError` where the server refuses the request (NotFoundError,
    ArgumentError, ErasedError, ConflictError) or gives no answer (ServerError).

    Example:
        >>> Client("http://127.0.0.1:8000", key="segue_1_2")
        Client('http://127.0.0.1:8000')
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 10.0, retries: int = 5) -> None:
        self._http, self._retries = httpx2.Client(**_settings(url, key, timeout)), retries

    def __repr__(self) -> str:
        return f"Client({str(self._http.base_url).rstrip('/')!r})"

    observe = _method(calls.observe)
    ingest_events = _method(calls.ingest_events)
    recommend = _method(calls.recommend)
    recommend_batch = _method(calls.recommend_batch)
    similar = _method(calls.similar)
    predict_rating = _method(calls.predict_rating)
    explain = _method(calls.explain)
    get_user = _method(calls.get_user)
    erase_user = _method(calls.erase_user)
    erase_event = _method(calls.erase_event)
    readmit_user = _method(calls.readmit_user)
    merge_user = _method(calls.merge_user)
    find_items = _method(calls.find_items)
    add_items = _method(calls.add_items)
    change_item = _method(calls.change_item)
    set_scenarios = _method(calls.set_scenarios)
    get_scenarios = _method(calls.get_scenarios)
    stop_experiment = _method(calls.stop_experiment)
    get_rules = _method(calls.get_rules)
    set_rules = _method(calls.set_rules)
    preview_rules = _method(calls.preview_rules)
    list_users = _method(calls.list_users)
    list_models = _method(calls.list_models)
    roll_out = _method(calls.roll_out)
    roll_back = _method(calls.roll_back)
    get_status = _method(calls.get_status)
    get_online_metrics = _method(calls.get_online_metrics)
    get_health = _method(calls.get_health)
    get_readiness = _method(calls.get_readiness)
    get_metrics = _method(calls.get_metrics)

    def ingest_each(self, events: Iterable[Named]) -> Iterator[EventLineOut]:
        """Ingest any number of events, each on its own; give what came of each, in their order.

        Args:
            events: read as they are sent, `LINES` of them in a request.
        """
        for part in _parts(events):
            yield from self.send(calls.ingest_lines(part))

    def recommend_each(self, requests: Iterable[Named]) -> Iterator[BatchListOut]:
        """Give a list for each of any number of requests, in their order; an error of one stands in its place.

        Args:
            requests: as `list_request` makes them; read as they are sent, `LINES` of them in a request.
        """
        for part in _parts(requests):
            yield from self.send(calls.recommend_lines(part))

    def send(self, request: Request[T]) -> T:
        """Send a request until it is answered, and return the value of the answer."""
        steps = exchange(request, self._retries)
        step = next(steps)
        while True:
            try:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    response = self._http.request(**_sent(step))
                except httpx2.TransportError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
            except StopIteration as done:
                found: T = done.value
                return found

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """The same as `Client`, with methods that are awaited, under asyncio or trio.

    The arguments are those of `Client`.

    Example:
        >>> async def main():
        ...     async with AsyncClient("http://127.0.0.1:8000") as client:
        ...         return await client.recommend("u1", k=5)
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 10.0, retries: int = 5) -> None:
        self._http, self._retries = httpx2.AsyncClient(**_settings(url, key, timeout)), retries

    def __repr__(self) -> str:
        return f"AsyncClient({str(self._http.base_url).rstrip('/')!r})"

    observe = _async_method(calls.observe)
    ingest_events = _async_method(calls.ingest_events)
    recommend = _async_method(calls.recommend)
    recommend_batch = _async_method(calls.recommend_batch)
    similar = _async_method(calls.similar)
    predict_rating = _async_method(calls.predict_rating)
    explain = _async_method(calls.explain)
    get_user = _async_method(calls.get_user)
    erase_user = _async_method(calls.erase_user)
    erase_event = _async_method(calls.erase_event)
    readmit_user = _async_method(calls.readmit_user)
    merge_user = _async_method(calls.merge_user)
    find_items = _async_method(calls.find_items)
    add_items = _async_method(calls.add_items)
    change_item = _async_method(calls.change_item)
    set_scenarios = _async_method(calls.set_scenarios)
    get_scenarios = _async_method(calls.get_scenarios)
    stop_experiment = _async_method(calls.stop_experiment)
    get_rules = _async_method(calls.get_rules)
    set_rules = _async_method(calls.set_rules)
    preview_rules = _async_method(calls.preview_rules)
    list_users = _async_method(calls.list_users)
    list_models = _async_method(calls.list_models)
    roll_out = _async_method(calls.roll_out)
    roll_back = _async_method(calls.roll_back)
    get_status = _async_method(calls.get_status)
    get_online_metrics = _async_method(calls.get_online_metrics)
    get_health = _async_method(calls.get_health)
    get_readiness = _async_method(calls.get_readiness)
    get_metrics = _async_method(calls.get_metrics)

    async def ingest_each(self, events: Iterable[Named]) -> AsyncIterator[EventLineOut]:
        """Do as `Client.ingest_each`."""
        for part in _parts(events):
            for found in await self.send(calls.ingest_lines(part)):
                yield found

    async def recommend_each(self, requests: Iterable[Named]) -> AsyncIterator[BatchListOut]:
        """Do as `Client.recommend_each`."""
        for part in _parts(requests):
            for found in await self.send(calls.recommend_lines(part)):
                yield found

    async def send(self, request: Request[T]) -> T:
        """Send a request until it is answered, and return the value of the answer."""
        steps = exchange(request, self._retries)
        step = next(steps)
        while True:
            try:
                if isinstance(step, Pause):
                    await anyio.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    response = await self._http.request(**_sent(step))
                except httpx2.TransportError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
            except StopIteration as done:
                found: T = done.value
                return found

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
