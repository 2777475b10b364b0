"""The verb `serve`."""

from pathlib import Path
from typing import Annotated

import typer

verbs = typer.Typer()


@verbs.command()
def serve(
    model: Annotated[Path, typer.Argument(help="A model that segue train wrote, or a folder of models.")],
    store: Annotated[
        str | None,
        typer.Option(
            help="SQLite file, or postgresql:// or valkey:// address; segue.db beside the model if not given.",
            envvar="SEGUE_STORE",
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address; addresses other than 127.0.0.1 need --keys.")] = "127.0.0.1",
    models: Annotated[Path | None, typer.Option(help="Folder of models; its file current says which runs.")] = None,
    keys: Annotated[
        Path | None, typer.Option(help="File that segue keys made; with it, each request needs a key.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name that Host headers may have; * for any.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Requests a second for each key or address; 0 for no limit; 200 if not local."),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes on the port; several need a postgresql:// or valkey:// store.", min=1)
    ] = 1,
    max_body: Annotated[int, typer.Option(help="MiB that a request may have.", min=1, max=1024)] = 32,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Report ready even where the store may lose the latest events.")
    ] = False,
    shadow: Annotated[
        Path | None, typer.Option(help="A second model that ranks the same events; its lists are only measured.")
    ] = None,
    scenarios: Annotated[
        Path | None, typer.Option(help="TOML file of scenarios and experiments, kept in the store.")
    ] = None,
) -> None:
    """Serve over HTTP: ingest events, recommend, survive a crash without losing an event."""
    from segue.serve import server
    from segue.serve.http.limits import Limits

    limits = Limits(body_bytes=max_body << 20)
    names = tuple(allow_host or ())
    settings = server.Settings(
        model, store, host, port, models, keys, names, rate, accept_loss, limits, shadow=shadow, scenarios=scenarios
    )
    if workers > 1:
        from segue.serve.workers import serve_workers

        serve_workers(settings, workers)
    else:
        server.serve(settings)
