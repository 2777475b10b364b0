"""Durable events and user states, in one SQLite file or in a PostgreSQL or Valkey server that replicas share.

Knows: events, their order and their ids; the versions of users; states as bytes; what was erased.
Does not know: HTTP, networks, lists, what the bytes of a state mean.

The path: `factory.open_store` turns an address into a store. `base.Store` is the contract. An event
(`events`) goes through `begin` of a store of `sql/`, which writes tables of one locked SQLite file or
of a PostgreSQL server, or of `valkey_store`, which runs a script of `lua/` in a server
(`valkey_server`). `snapshots` says which earlier states stay. `erasure` deletes users and events,
which `id_hashing` lets a store recognise without their names. `readonly` opens a store of which a
server is the owner.
"""
