"""The stores that keep tables: one SQLite file, or a PostgreSQL server that replicas share.

Knows: tables, statements, what a transaction reads first and writes last.
Does not know: models, lists, HTTP.

The path: `tables` has the tables of both databases. `sql_store` says what each method of the
contract is in statements, and `writes` what a commit is. `sqlite_store` runs them in one locked file
(`sqlite_file`), `postgres_store` in a server (`postgres_server`).
"""
