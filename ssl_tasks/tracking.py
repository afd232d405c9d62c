"""Tracker: how a stage tells the outside what it is doing. The default writes one JSON line an event."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

EVENTS = "events.jsonl"


class Tracker(Protocol):
    """What a stage may say while it runs. Calls are cheap and never fail because of a server."""

    def params(self, values: Mapping[str, Any]) -> None:
        """State facts that are known only when the stage runs, such as parameter counts; flat, names with `/` or `.`."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers of one step, names with `/`, such as `train/loss` or `small/train/loss`."""

    def progress(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Say how far the stage is; `values` are what a progress bar shows (loss, images_per_second)."""

    def note(self, message: str) -> None:
        """Say one line to the person who watches."""


class Silent:
    """Keeps nothing, for trainings of which nobody is told."""

    def params(self, values: Mapping[str, Any]) -> None:
        pass

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        pass

    def progress(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        pass

    def note(self, message: str) -> None:
        pass


class JSONLines:
    """Writes each event as a line `{"event": ..., "time": ..., ...}` and flushes it, so that another process can follow."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def params(self, values: Mapping[str, Any]) -> None:
        self._write("params", values=dict(values))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._write("metrics", step=step, values={k: float(v) for k, v in values.items()})

    def progress(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        self._write("progress", step=step, steps=steps, values={k: float(v) for k, v in values.items()})

    def note(self, message: str) -> None:
        self._write("note", message=message)

    def _write(self, event: str, **fields: Any) -> None:
        self._file.write(json.dumps({"event": event, "time": time.time(), **fields}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Write what is buffered to the disk and close the file."""
        os.fsync(self._file.fileno())
        self._file.close()
