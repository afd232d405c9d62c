"""What commands have in common: exit statuses, options, and how they print."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

DONE, FAILED, INVALID, INTERRUPTED = 0, 1, 2, 130

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Workspace = Annotated[
    Path, typer.Option("--workspace", envvar="SSLFLOW_WORKSPACE", help="Where .sslflow/, data/ and mlflow.db are.", show_default="current folder")
]


def print_json(document: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=1, default=str))
