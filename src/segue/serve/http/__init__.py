"""What every request passes, whatever its route.

The path: `connection` bounds the headers; `middleware` checks host, rate (`limits`) and key (`auth`);
`bodies` receives and parses the body; `routing` decodes the request for its route; `batching` gathers
requests that arrive together. `problems` are the answers of refused requests, `openapi` describes all
routes, `metrics` counts, `shutdown` logs why the server stops.
Does not know: models, stores, what a route does.
"""
