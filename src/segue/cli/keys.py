"""The verbs `keys add`, `keys list` and `keys remove`."""

from pathlib import Path
from typing import Annotated, cast

import typer

from segue.cli import options
from segue.serve.http import auth

keyring = typer.Typer(help="Manage a server's API keys, in a file that holds only their hashes.", no_args_is_help=True)
Client = Annotated[str, typer.Argument(help="Name of the client.", metavar="NAME")]


@keyring.command("add")
def add_key(
    name: Client,
    keys: options.KeyFile = Path("keys.json"),
    role: Annotated[
        str, typer.Option(help="read, write or admin; each role may do what the roles before it may do.")
    ] = "write",
) -> None:
    """Make a key and print it once; the key itself is stored nowhere."""
    typer.echo(auth.add_key(keys, name, cast(auth.Role, role)))
    typer.echo(
        f'The key of "{name}", which may {role}; it is not shown again. Send it as Authorization: Bearer KEY.', err=True
    )


@keyring.command("list")
def list_keys(keys: options.KeyFile = Path("keys.json")) -> None:
    """List the names and roles of all keys."""
    for key in auth.read_keys(keys).keys.values():
        typer.echo(f"{key.role:<6} {key.name}")


@keyring.command("remove")
def remove_key(name: Client, keys: options.KeyFile = Path("keys.json")) -> None:
    """Remove a key; a running server reads the file again at SIGHUP."""
    auth.remove_key(keys, name)
