"""Ingest: list the images of a source in a manifest. The images stay where they are."""

import hashlib
import time
from pathlib import Path
from typing import Any

from schemas.artifacts import Artifact
from schemas.job import Job
from schemas.sources import Source
from schemas.stages import Ingest
from ssl_tasks import artifacts
from ssl_tasks.data import containers, images, manifest, sources
from ssl_tasks.data.folder import Found
from ssl_tasks.data.store import parallel
from ssl_tasks.tracking import Tracker


def ingest(job: Job, tracker: Tracker) -> dict[str, Artifact]:
    """Write the manifest of a source: one row an image, with its hash and what its header says.

    An image that cannot be read is listed all the same, without hash or size: what becomes of it is for curation to decide.

    Raises:
        UserError: where there are no images, or they cannot be made or downloaded.
    """
    assert isinstance(job.stage, Ingest)
    source = job.stage.source
    sources.materialise(source, job.workspace)
    found = sources.files(source, job.workspace, lambda done, of: tracker.progress(done, of, {}))
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
    """What a manifest says of one image, whose bytes are read once."""
    try:
        data = containers.read_bytes(file.uri, workspace, file.stamp)
    except OSError:
        data = None
    digest = hashlib.sha256(data).hexdigest() if data is not None else ""
    width, height, mode = (images.header(data) if data is not None else None) or (None, None, None)
    return {
        "uri": containers.listed(file.uri, workspace),
        "sha256": digest,
        "bytes": len(data or b""),
        "width": width,
        "height": height,
        "mode": mode,
        "label": file.label,
        "split": sources.split(source, file, digest),
    }
