"""The routes, a function each, by topic: events, recommend, users, items, admin, health.

`schemas` are the requests as the decoder reads them, `answers` the shapes of the answers,
`serializers` make answers of the service's values.
Does not know: sockets, limits, how a list is made.
"""
