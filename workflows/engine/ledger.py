"""The ledger: one folder a run under `.sslflow/runs/`, written as the run goes. Ours, since a tracker or server may be gone."""

import fcntl
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from schemas import job
from schemas.artifacts import MANIFEST, Artifact, read
from schemas.errors import UserError

RUNS = Path(".sslflow/runs")
LOCKS = Path(".sslflow/locks")
RECORD = "run.json"
ARTIFACTS = "artifacts"
NUMBERS = ("results.json", "items.npz")
"""Files of a report that a run keeps."""


class Run:
    """The record of one execution of a pipeline; safe to update from several threads."""

    def __init__(self, workspace: Path, pipeline: str, **facts: Any) -> None:
        now = datetime.now(UTC)
        self.id = f"{now:%Y%m%d-%H%M%S}-{pipeline}-{secrets.token_hex(2)}"
        self.folder = workspace / RUNS / self.id
        self.folder.mkdir(parents=True)
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.record: dict[str, Any] = {
            "id": self.id,
            "pipeline": pipeline,
            "status": "running",
            "pid": os.getpid(),
            "started": now.isoformat(timespec="seconds"),
            "stages": {},
            **facts,
        }
        self._write()

    def stage(self, name: str, **fields: Any) -> None:
        """Update what is recorded of a stage: status, key, reason, seconds, error, attempt, metrics."""
        with self._lock:
            self.record["stages"].setdefault(name, {}).update(fields)
            self._write()

    def note(self, **fields: Any) -> None:
        """Update what is recorded of the run as a whole, such as the address of its MLflow run."""
        with self._lock:
            self.record.update(fields)
            self._write()

    def finish(self, status: str) -> None:
        """Close the record with the run's verdict: done, failed or cancelled."""
        self.note(status=status, ended=datetime.now(UTC).isoformat(timespec="seconds"), seconds=round(time.monotonic() - self._began, 2))

    def _write(self) -> None:
        draft = self.folder / f".{RECORD}"
        draft.write_text(json.dumps(self.record, indent=1))
        draft.replace(self.folder / RECORD)


def runs(workspace: Path) -> Iterator[dict[str, Any]]:
    """Records of all runs, newest first. A run whose process is gone without a verdict has the status `died`."""
    for path in sorted((workspace / RUNS).glob(f"*/{RECORD}"), reverse=True):
        record = json.loads(path.read_text())
        if record["status"] == "running" and not _alive(record["pid"]):
            record["status"] = "died"
        yield record


def keep(folder: Path, artifacts: Mapping[str, Artifact]) -> None:
    """Keep in a run's folder what was known of its artifacts, and the numbers of its reports: a later run may make them again under the same keys.

    Args:
        artifacts: by reference, such as `students.small`.
    """
    for reference, artifact in artifacts.items():
        kept = folder / ARTIFACTS / reference.replace("/", "_")
        kept.mkdir(parents=True, exist_ok=True)
        for name in (MANIFEST, *(set(NUMBERS) & artifact.files.keys())):
            shutil.copyfile(artifact.path(name), kept / name)


def artifacts(workspace: Path, record: Mapping[str, Any]) -> dict[str, Artifact]:
    """What is made of a run, by reference, as it was when the run ended; of one that did not end, as it is."""
    found: dict[str, Artifact] = {}
    for name, stage in record["stages"].items():
        for output, key in stage.get("outputs", {}).items():
            reference = f"{name}.{output}" if output else name
            kept = workspace / RUNS / record["id"] / ARTIFACTS / reference.replace("/", "_")
            with suppress(FileNotFoundError, NotADirectoryError, ValueError):
                if kept.is_dir():
                    found[reference] = read(kept)
                elif stage["status"] in ("done", "reused", "failed"):  # a report whose numbers are not as expected is there too
                    found[reference] = read(workspace / job.ARTIFACTS / key)
    return found


def last_keys(workspace: Path, pipeline: str) -> dict[str, dict[str, str]]:
    """Of each stage of a pipeline, the keys of its outputs in the newest run that came to it."""
    newest: dict[str, dict[str, str]] = {}
    for record in runs(workspace):
        if record["pipeline"] == pipeline:
            for name, stage in record["stages"].items():
                if stage.get("outputs") and stage["status"] not in ("planned", "skipped"):
                    newest.setdefault(name, stage["outputs"])
    return newest


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Exclusive:
    """Holds a pipeline of a workspace, so that two runs of it do not write over each other. Let go when the process ends, however it ends."""

    def __init__(self, workspace: Path, pipeline: str) -> None:
        self._path = workspace / LOCKS / f"{pipeline}.lock"
        self._pipeline = pipeline

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise UserError(f"pipeline '{self._pipeline}' is running already in this workspace (process {holder}); wait for it or stop it") from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
