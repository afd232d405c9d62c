"""Command that compares what was run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from workflows.engine.cli_options import Json, Workspace, print_json

app = typer.Typer()


@app.command(epilog="Example: sslflow compare latest 20260812-1530 --out comparison.html")
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run ids (or the start of one), `latest`, or pipelines for their newest run")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the comparison as one HTML page.", show_default=False)] = None,
    workspace: Workspace = Path("."),
    as_json: Json = False,
) -> None:
    """Compare runs: the settings and the numbers that they differ in, with intervals and paired tests."""
    from workflows.engine.comparing import compare as compared
    from workflows.engine.comparing.shown import show, write

    found = compared(workspace.resolve(), runs)
    if as_json:
        print_json(found.as_json())
    else:
        from workflows.engine.display import console

        show(console(), found)
    if out:
        write(found, out)
        print(f"page: {out}", file=sys.stderr)
