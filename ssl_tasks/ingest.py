"""Ingest: list the images of a source in a manifest. The images stay where they are."""

import os
import time
from pathlib import Path
from typing import Any

from schemas.artifacts import Artifact, sha256
from schemas.job import Job
from schemas.sources import Source
from schemas.stages import Ingest
from ssl_tasks import artifacts
from ssl_tasks.data import images, manifest, sources
from ssl_tasks.data.folder import Found
from ssl_tasks.data.store import parallel
from ssl_tasks.tracking import Tracker


def ingest(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Write the manifest of a source: one row an image file, with its hash and what its header says.

    A file that cannot be read is listed all the same, without hash or size: what becomes of it is for curation to decide.

    Raises:
        UserError: where there are no images, or they cannot be made or downloaded.
    """
    assert isinstance(job.stage, Ingest)
    source = job.stage.source
    sources.materialise(source, job.workspace)
    found = sources.files(source, job.workspace)
    rows, last = [], 0.0
    for row in parallel(lambda file: describe(file, source, job.workspace), found):
        rows.append(row)
        if time.monotonic() - last > 0.5 or len(rows) == len(found):
            last = time.monotonic()
            tracker.progress(len(rows), len(found), {})
    table = manifest.build(rows)
    metrics = {
        "images": len(rows),
        "labels": len({row["label"] for row in rows} - {None}),
        "splits": len({row["split"] for row in rows}),
        "bytes": sum(row["bytes"] for row in rows),
    }
    tracker.metrics(metrics, 0)
    folder = artifacts.draft(job)
    manifest.write(table, folder)
    return {"": artifacts.seal(job, folder, rows=len(rows), kept=len(manifest.kept(table)), metrics=metrics)}


def describe(file: Found, source: Source, workspace: Path) -> dict[str, Any]:
    """What a manifest says of one file."""
    try:
        digest, size = sha256(file.path), file.path.stat().st_size
    except OSError:
        digest, size = "", 0
    width, height, mode = images.header(file.path) or (None, None, None)
    return {
        "uri": uri(file.path, workspace),
        "sha256": digest,
        "bytes": size,
        "width": width,
        "height": height,
        "mode": mode,
        "label": file.label,
        "split": sources.split(source, file, digest),
    }


def uri(path: Path, workspace: Path) -> str:
    """The path relative to the workspace, or absolute where it lies outside; symlinks stay as they are."""
    absolute, root = Path(os.path.abspath(path)), Path(os.path.abspath(workspace))
    return (absolute.relative_to(root) if absolute.is_relative_to(root) else absolute).as_posix()
