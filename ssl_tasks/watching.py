"""Watching: the encoder as it is whenever the monitors look, handed to a process beside the training that judges it.

The training does no more than write the weights: `watcher.py` judges them on the CPU, in a process of low priority, and what it finds is
read at the next look. So the training is bit for bit the one that nobody watches, and it chooses nothing by what is found: what a stage
hands over is its last state. A watcher that fails costs a note and the rest of the curve.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from schemas.job import Job
from ssl_tasks import distributed
from ssl_tasks.checkpoints import save_encoder
from ssl_tasks.learner import Learner
from ssl_tasks.method import Method
from ssl_tasks.monitors import Look
from ssl_tasks.tracking import Tracker

FOLDER = "watch"
"""In a work folder: `JOB`, a folder a snapshot that is not judged yet, `FOUND` a line a number or note, and `OVER` once the training has ended."""
JOB, FOUND, OVER, LOG, ENCODER = "job.json", "found.jsonl", "over", "log.txt", "encoder.json"
SNAPSHOTS = "step-*"
PATIENCE = 600.0
"""Seconds that the end of a training waits for what is not judged yet, or a tenth of the training's own time where that is more."""
_POLL = 0.1


class Watching:
    """The monitors' look, which also leaves the encoder for the watcher. As a context it ends with the watcher's last number.

    Attributes:
        found: the watcher's numbers, a mapping each: `step`, `measure`, `value`, and by which version of a protocol on which split.
    """

    def __init__(self, job: Job, look: Look, tracker: Tracker) -> None:
        self.folder, self._job, self._look, self._tracker = job.work / FOLDER, job, look, tracker
        self.found: list[dict[str, Any]] = []
        self._read = 0
        self._learner: Learner | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def begin(self, learner: Learner) -> None:
        """Start the watcher of a learner; only the main rank has one."""
        self._learner = learner
        if not distributed.is_main():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / OVER).unlink(missing_ok=True)
            (self.folder / JOB).write_text(self._job.model_dump_json(), encoding="utf-8")
            alone = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
            with (self.folder / LOG).open("ab") as log:
                command = [sys.executable, "-m", "ssl_tasks.watcher", str(self.folder), str(os.getpid())]
                self._watcher = subprocess.Popen(command, env={**alone, "CUDA_VISIBLE_DEVICES": ""}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        except OSError as error:
            self._give_up(f"it cannot be started: {error}")

    def __call__(self, method: Method) -> dict[str, float]:
        """What the monitors see; afterwards the encoder is left for the watcher."""
        seen = self._look(method)
        self._snapshot(method)
        if distributed.is_main():
            self._hear()
        return seen

    def _snapshot(self, method: Method) -> None:
        """Leave the encoder for the watcher. All ranks must ask, since each may hold a part of it; the main one writes."""
        assert self._learner
        encoder: Any = method.exported()
        step = self._learner.done
        ready, draft = self.folder / f"step-{step:09d}", self.folder / f".{step}"
        if distributed.is_main():
            with suppress(OSError):  # where it cannot be made, writing into it says why
                draft.mkdir(parents=True, exist_ok=True)
        try:
            save_encoder(draft, encoder)
            if distributed.is_main() and not self._failed and step not in {number["step"] for number in self.found}:
                (draft / ENCODER).write_text(json.dumps({"step": step, "encoder": encoder.config.model_dump(mode="json"), "dim": encoder.dim}))
                shutil.rmtree(ready, ignore_errors=True)
                draft.rename(ready)
        except Exception as error:  # nothing that goes wrong here may end the training
            self._give_up(str(error))
        if distributed.is_main():
            shutil.rmtree(draft, ignore_errors=True)

    def _hear(self) -> None:
        """Tell the tracker what the watcher found since the last time."""
        path = self.folder / FOUND
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        for line in map(json.loads, lines[self._read :]):
            if "note" in line:
                self._tracker.note(f"watch: {line['note']}")
                continue
            self.found.append(line)
            self._tracker.metrics({f"watch/{line['measure']}": line["value"]}, line["step"])
        self._read = len(lines)
        if self._watcher and self._watcher.poll():
            self._give_up("")

    def _give_up(self, why: str) -> None:
        if not self._failed:
            log = self.folder / LOG
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] if log.exists() else []
            self._tracker.note(f"watch: the encoder is judged no further, the training goes on: {why or ''.join(last) or 'the watcher died'}")
        self._failed = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._watcher is None:
            return
        try:
            if error is None:
                self._wait(self._watcher)
        finally:
            self._watcher.kill()
            self._watcher.wait()

    def _wait(self, watcher: subprocess.Popen[bytes]) -> None:
        """Let the watcher judge what is left, the newest first."""
        (self.folder / OVER).touch()
        left = len(list(self.folder.glob(SNAPSHOTS)))
        if left and watcher.poll() is None:
            self._tracker.note(f"watch: trained; {left} of the encoder's states are still to be judged")
        until = time.monotonic() + max(PATIENCE, self._learner.seconds / 10 if self._learner else 0)
        while watcher.poll() is None and time.monotonic() < until:
            self._hear()
            time.sleep(_POLL)
        self._hear()
        if not self._failed and (left := len(list(self.folder.glob(SNAPSHOTS)))):
            self._tracker.note(f"watch: {left} of the encoder's states were not judged in time, the curve is without them")
        self.found.sort(key=lambda number: number["step"])


def snapshots(folder: Path) -> list[Path]:
    """Folders of the encoders that are still to be judged, the newest first."""
    return sorted(folder.glob(SNAPSHOTS), reverse=True)
