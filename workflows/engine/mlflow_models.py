"""Models in MLflow's registry: what is to be sent so that a distilled student or an export becomes a version there. Knows nothing of MLflow."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.artifacts import MANIFEST, Artifact, Checkpoint, Export
from workflows.engine.mlflow_values import clean

Operation = tuple[str, dict[str, Any]]
"""A verb of `mlflow_store` and its fields."""

MODEL, DATA, LOADER = "model", "files", "ssl_tasks.export.served"
"""Folder of a run in which an export lies, its files' folder in there, and the module that `mlflow.pyfunc` loads them with."""
_LARGEST_STUDENT = 200_000_000
"""Bytes of a student up to which its files are copied into MLflow; a larger one is only named there. An export is registered on request: whole."""


def versions(artifact: Artifact, pipeline: str, stage: str, output: str) -> Iterator[Operation]:
    """What makes an artifact that a stage has just made a version of a model; nothing for most."""
    if isinstance(artifact, Export) and (registry := artifact.config["registry"]):
        yield from (file(artifact, name, f"{MODEL}/{DATA}") for name in (MANIFEST, *artifact.files))
        yield "pyfunc", {"folder": MODEL, "data": DATA, "loader": LOADER}
        tags = {"sslflow.formats": ", ".join(artifact.formats), "licence": artifact.config["licence"], **_lineage(artifact)}
        yield "register", {"folder": MODEL, "tags": _stated(tags), **registry}
    elif isinstance(artifact, Checkpoint) and artifact.kind == "distill":
        files = (MANIFEST, *artifact.files)
        if sum(artifact.path(name).stat().st_size for name in files) <= _LARGEST_STUDENT:
            yield from (file(artifact, name, output) for name in files)
        name = re.sub(r"[^a-z0-9_]+", "-", f"{pipeline}-{stage}-{output}")
        yield "register", {"name": name, "folder": output, "tags": _stated(_lineage(artifact))}


def aliases(artifact: Artifact) -> Iterator[Operation]:
    """What lets the alias of an artifact that was made before point to its version again."""
    if isinstance(artifact, Export) and (registry := artifact.config["registry"]) and registry["alias"]:
        yield "alias", {"key": artifact.key, **registry}


def file(artifact: Artifact, name: str, folder: str) -> Operation:
    """A file of an artifact, to lie in a folder of the run as it lies in the artifact."""
    inner = "/".join(part for part in (folder, *Path(name).parent.parts) if part)
    return "file", {"path": str(artifact.path(name).resolve()), "folder": inner}


def _lineage(artifact: Artifact) -> dict[str, str]:
    tags = {"sslflow.key": artifact.key, "sslflow.folder": str(artifact.folder.resolve()), "data.version": artifact.data_version}
    return tags | {f"sslflow.parent.{clean(text)}": key for text, key in artifact.parents.items()}


def _stated(tags: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if value}
