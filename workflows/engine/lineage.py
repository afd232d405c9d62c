"""Explaining a number: from a report to the students, the teacher, the manifest, the data version, config and commit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from schemas.artifacts import Artifact, read
from schemas.errors import UserError
from schemas.job import ARTIFACTS
from schemas.references import split
from workflows.engine import ledger

T = TypeVar("T")


def find(workspace: Path, name: str) -> dict[str, Any] | Artifact:
    """The run or artifact that `name` stands for: an id or key or the start of one, `latest`, a stage's name, or that of a run's stage, `RUN/STAGE`.

    Raises:
        schemas.errors.UserError: if it stands for nothing, or for several.
    """
    runs = list(ledger.runs(workspace))
    if name == "latest" and runs:
        return runs[0]
    if exact := [r for r in runs if r["id"].startswith(name)]:
        return _one(exact, name, [r["id"] for r in exact])
    folders = sorted((workspace / ARTIFACTS).glob(f"{name}*/artifact.json")) if name else []
    if folders:
        return read(_one([f.parent for f in folders], name, [f.parent.name for f in folders]))
    head, _, tail = name.partition("/")
    if tail and (chosen := runs[:1] if head == "latest" else [r for r in runs if r["id"].startswith(head)]):
        runs, name = chosen, tail
    stage, output = split(name)
    for run in runs:
        key = run["stages"].get(stage, {}).get("outputs", {}).get(output)
        if key and (workspace / ARTIFACTS / key / "artifact.json").exists():
            return read(workspace / ARTIFACTS / key)
    raise UserError(f"no run, artifact or stage '{name}' in {workspace / '.sslflow'}; `sslflow runs` lists the runs")


def chain(workspace: Path, artifact: Artifact, depth: int = 0, seen: set[str] | None = None) -> Iterator[tuple[int, Artifact]]:
    """The artifact and all that it was made from, depth first; each artifact once."""
    seen = set() if seen is None else seen
    if artifact.key in seen:
        return
    seen.add(artifact.key)
    yield depth, artifact
    for key in dict.fromkeys(artifact.parents.values()):
        folder = workspace / ARTIFACTS / key
        if (folder / "artifact.json").exists():
            yield from chain(workspace, read(folder), depth + 1, seen)


def runs_of(workspace: Path, key: str) -> list[str]:
    """Ids of the runs that made or used the artifact with `key`, newest first."""
    return [r["id"] for r in ledger.runs(workspace) if any(key in s.get("outputs", {}).values() for s in r["stages"].values())]


def _one(found: list[T], name: str, names: list[str]) -> T:
    if len(found) > 1:
        raise UserError(f"'{name}' stands for several: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}; give more of it")
    return found[0]
