"""Sealing: a payload folder becomes an artifact when its `artifact.json` is written and the folder renamed to its key."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from schemas.artifacts import MANIFEST, Artifact, Dataset, read, sha256
from schemas.job import Job
from schemas.references import references
from schemas.stages import for_output, output_config


def draft(job: Job, output: str = "") -> Path:
    """An empty folder to write the payload of `output` into; what an earlier try left there is removed."""
    folder = job.work / "draft" / (output or "output")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _made(job: Job, key: str) -> Artifact | None:
    return read(job.folder(key)) if (job.folder(key) / MANIFEST).exists() else None


def seal(job: Job, folder: Path, output: str = "", **fields: Any) -> Artifact:
    """Turn a payload folder into the artifact of `output`, atomically.

    Args:
        folder: from `draft`, with the payload in it.
        fields: what the artifact's type states of itself (`rows`, `encoder`, `metrics`, ...), as JSON values.

    Raises:
        pydantic.ValidationError: if `fields` are not those of the artifact's type.
    """
    payload = sorted(p for p in folder.rglob("*") if p.is_file())
    named = {reference.text for reference in references(for_output(job.stage, output))}
    taken = {text: key for text, key in job.inputs.items() if text in named}
    stated = {
        "type": job.stage.makes,
        "key": job.outputs[output],
        "stage": f"{job.name}.{output}" if output else job.name,
        "kind": job.stage.kind,
        "config": output_config(job.stage, output),
        "parents": taken,
        "files": {p.relative_to(folder).as_posix(): sha256(p) for p in payload},
        "sizes": {p.relative_to(folder).as_posix(): p.stat().st_size for p in payload},
        "data_version": job.data_version,
        "manifests": {text: found.manifest for text, key in taken.items() if isinstance(found := _made(job, key), Dataset)},
        "weights": job.weights(output),
        "environment": job.environment,
        **fields,
    }
    (folder / MANIFEST).write_text(json.dumps(stated, indent=1, sort_keys=True))
    read(folder)
    for path in (*payload, folder / MANIFEST):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    final = job.folder(job.outputs[output])
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        replaced = job.work / "replaced" / final.name
        replaced.parent.mkdir(exist_ok=True)
        final.rename(replaced)
        shutil.rmtree(replaced)
    folder.rename(final)
    return read(final)
