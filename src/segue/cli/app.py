"""The command `segue`: its verbs, the names that changed, and the exit codes.

Exit 0: done. Exit 1: bad input, with a message and no traceback. Exit 2: wrong usage. Exit 3: a
condition of `--fail-if` holds, or `segue retrain` did not publish its model; the reason is said.
"""

import sys
from typing import Annotated, Any

import typer

import segue
from segue.addresses import hidden
from segue.cli import datasets, insight, keys, models, recommend, serve, store, training
from segue.errors import SegueError

#: Old verbs and options with the names of today.
RENAMED_VERBS = {"look": "insight"}
RENAMED_OPTIONS = {"--bundles": "--models", "--passes": "--epochs"}

#: What wrong usage raises.
_UsageError: Any = typer.BadParameter.__base__


class Verbs(typer.core.TyperGroup):
    """The verbs. Old names are refused with the new name, and no password in an address is repeated."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a verb by its name."""
        if new := RENAMED_VERBS.get(args[0]):
            raise _UsageError(f"segue {args[0]}: this command is now segue {new}.", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            option = getattr(error, "option_name", None)
            if new := RENAMED_OPTIONS.get(str(option)):
                raise _UsageError(f"{option}: this option is now {new}.", error.ctx) from None
            error.message = hidden(error.message, sys.argv)
            raise


app = typer.Typer(no_args_is_help=True, add_completion=False, cls=Verbs)
for group in (datasets.first, training.verbs, recommend.verbs, models.verbs, store.verbs, serve.verbs, insight.verbs):
    app.registered_commands += group.registered_commands
app.add_typer(datasets.named, name="datasets")
app.add_typer(keys.keyring, name="keys")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"segue {segue.__version__}")
        raise typer.Exit


@app.callback()
def segue_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A recommender that remembers."""


def main() -> None:
    """Run the command line."""
    try:
        app()
    except SegueError as error:
        typer.echo(f"segue: {hidden(str(error), sys.argv)}", err=True)
        sys.exit(1)
