"""A client of a server: `Client`, and `AsyncClient` for asyncio and trio.

The path: `calls` makes the request of each route from arguments, `exchange` says when a request is sent again and
what an answer means, `clients` sends. Requests and answers are the types of `segue.serve.api`.
Does not know: models, stores, JAX.
"""

from segue.client.calls import event, list_request
from segue.client.clients import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "event", "list_request"]
