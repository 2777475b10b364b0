"""The commands about API keys. Knows: their file. Does not know: how a server checks them."""

from pathlib import Path
from typing import Annotated, cast

import typer

from segue.cli.options import KeyFile
from segue.serve.http import auth as segue_keys

keyring = typer.Typer(help="API keys of a server, in a file that holds only their hashes.", no_args_is_help=True)


@keyring.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Of the client.", metavar="NAME")],
    keys: KeyFile = Path("keys.json"),
    role: Annotated[str, typer.Option(help="read, write or admin; each may do what those before it may.")] = "write",
) -> None:
    """Make a key and print it once; it is kept nowhere."""
    typer.echo(segue_keys.add_key(keys, name, cast(segue_keys.Role, role)))
    typer.echo(
        f'The key of "{name}", which may {role}; it is not shown again. Send it as Authorization: Bearer KEY.', err=True
    )


@keyring.command("list")
def list_keys(keys: KeyFile = Path("keys.json")) -> None:
    """The names and roles of all keys."""
    for key in segue_keys.read_keys(keys).keys.values():
        typer.echo(f"{key.role:<6} {key.name}")


@keyring.command("remove")
def remove_key(
    name: Annotated[str, typer.Argument(help="Of the client.", metavar="NAME")], keys: KeyFile = Path("keys.json")
) -> None:
    """Take a key out; a running server follows at SIGHUP."""
    segue_keys.remove_key(keys, name)
