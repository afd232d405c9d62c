"""Commands that take a trained model: hand it out as files, embed a folder of images."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from schemas.artifacts import MANIFEST, Checkpoint, read
from schemas.errors import UserError, did_you_mean
from schemas.exports import Format
from schemas.stages import KINDS
from workflows.engine import lineage
from workflows.engine.cli_options import FAILED, Json, Workspace, print_json

app = typer.Typer()

Model = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="Artifact folder, artifact key (or the start of one), stage, or RUN/STAGE", show_default=False)
]


@app.command(epilog="Example: sslflow export students.small --format timm --format onnx --out exported")
def export(
    checkpoint: Model,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="New or empty folder for the files.", show_default=False)],
    formats: Annotated[list[str], typer.Option("--format", metavar="FORMAT", help=f"{', '.join(get_args(Format))}; all where not given.")] = [],  # noqa: B006
    licence: Annotated[str, typer.Option(help="Of the weights, for the model card.")] = "",
    workspace: Workspace = Path("."),
    as_json: Json = False,
) -> None:
    """Write a model as files that other programs load, each checked against it, with a model card."""
    wanted = _formats(formats)
    artifact = _checkpoint(workspace.resolve(), checkpoint)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is there already and not an empty folder: name a new one")
    from ssl_tasks.export import hand_out, remarks
    from ssl_tasks.export.card import Background
    from ssl_tasks.export.original import Original
    from ssl_tasks.lineage import behind

    links = behind({artifact.stage: artifact.key}, lambda key: artifact.folder if key == artifact.key else artifact.folder.parent / key)
    partial = out.with_name(f"{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        outcome = hand_out(Original(artifact), wanted, partial, Background(links, licence=licence))
        partial.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}): make room on its disk, or name another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if as_json:
        print_json({"folder": str(out), **outcome.as_json()})
        return
    for name, made in outcome.made.items():
        print(f"{out / name}: as the original to {made.worst.relative:.2g} in {made.runtime}")
    for line in remarks(outcome):
        print(f"warning: {line}", file=sys.stderr)


@app.command(epilog="Example: sslflow embed students.small photos --out features.parquet")
def embed(
    checkpoint: Model,
    folder: Annotated[Path, typer.Argument(help="Folder of images, of any nesting", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Ends in .parquet or .npz.", show_default=False)],
    patches: Annotated[bool, typer.Option("--patches", help="Also one feature a patch or place.")] = False,
    workspace: Workspace = Path("."),
    as_json: Json = False,
) -> None:
    """Write the features of a folder of images to one file; ends with 1 where an image gives no picture and is left out."""
    artifact = _checkpoint(workspace.resolve(), checkpoint)
    from ssl_tasks.export.embed import embed as write

    told = write(artifact, folder, out, patches)
    if as_json:
        print_json({"file": str(out), "images": told.images, "dim": artifact.dim, "skipped": told.skipped})
    else:
        print(f"{out}: features of {told.images:,} images, {artifact.dim} numbers each")
        for name, reason in told.skipped.items():
            print(f"left out: {folder / name} gives no picture: {reason}", file=sys.stderr)
    if told.skipped:
        raise SystemExit(FAILED)


def _checkpoint(workspace: Path, name: str) -> Checkpoint:
    """The Checkpoint that a name stands for: its folder, or what `lineage.find` finds."""
    found = read(Path(name).resolve()) if (Path(name) / MANIFEST).is_file() else lineage.find(workspace, name)
    if isinstance(found, dict):
        raise UserError(f"'{name}' is a run; name a checkpoint of it: {', '.join(_checkpoints(found)) or 'it has none'}")
    if not isinstance(found, Checkpoint):
        raise UserError(f"'{name}' is a {found.type}, wanted a Checkpoint")
    return found


def _formats(written: Iterable[str]) -> list[Format]:
    known = get_args(Format)
    for name in written:
        if name not in known:
            raise UserError(f"--format {name}: no such format; {did_you_mean(name, known) or 'there are: ' + ', '.join(known)}")
    return [cast(Format, name) for name in written] or list(known)


def _checkpoints(run: dict[str, Any]) -> Iterator[str]:
    """Names of the checkpoints that a run made or used."""
    for name, stage in run["stages"].items():
        if KINDS[stage["kind"]].makes == "Checkpoint":
            yield from (f"{run['id']}/{name}" + (f".{output}" if output else "") for output in stage.get("outputs", {}))
