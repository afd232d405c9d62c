"""Launch: one stage in a child process, followed while it runs, stopped for good when it must stop."""

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from schemas.artifacts import Artifact, damaged, read
from schemas.errors import Collapse, TryAgain, UserError
from schemas.job import Job
from ssl_tasks.tracking import EVENTS
from workflows.engine.worker import DISK, ERROR, MENDABLE, PARENT

JOB, LOG = "job.json", "log.txt"
Follow = Callable[[dict[str, Any]], None]
DISTRIBUTED = ("tokenizer", "pretrain", "distill", "finetune")
_POLL = 0.2


class StageDied(Exception):
    """A stage's process that ended without its artifact, by what a retry may mend: a crash, a kill, no memory."""


class TimedOut(UserError):
    """A stage that took longer than `resources.timeout`; a retry would take as long."""


class Stopped(Exception):
    """A stage that ended because it was asked to."""


class Stop(threading.Event):
    """Set to ask running stages to end. `grace` is how many seconds each has to write its checkpoint, 0 to kill them now."""

    grace = 20.0


def launch(
    job: Job,
    *,
    devices: Sequence[str] | None = None,
    threads: int = 1,
    timeout: float = float("inf"),
    on_event: Follow,
    on_log: Callable[[str], None] | None = None,
    stop: Stop | None = None,
    held: Sequence[int] = (),
    log_to: Path | None = None,
) -> dict[str, Artifact]:
    """Run a stage in a child process and wait for it.

    Args:
        devices: GPUs that the stage may see, as CUDA_VISIBLE_DEVICES names them; None for the CPU.
        threads: of each of the stage's processes.
        timeout: seconds until the stage is stopped for good.
        on_event: called with each event that the stage tracks, in order.
        on_log: called with each line that the stage prints.
        held: file descriptors of locks that are to be kept as long as the child lives, even when this process is killed.
        log_to: where the child's output is kept when the work folder goes.

    Returns:
        The artifact of each output of the job.

    Raises:
        UserError: what a retry cannot mend, in the stage's own words; `TimedOut` if it took too long.
        StageDied: if it ended without its artifacts in any other way.
        Stopped: if `stop` was set.
    """
    stop = stop or Stop()
    with _disk_errors(job.workspace):
        job.work.mkdir(parents=True, exist_ok=True)
        (job.work / JOB).write_text(job.model_dump_json(indent=1), encoding="utf-8")
        (job.work / ERROR).unlink(missing_ok=True)
        log = (job.work / LOG).open("ab")
    events, printed = Tail(job.work / EVENTS), Tail(job.work / LOG)

    def forward() -> None:
        for line in printed.lines():
            if on_log:
                on_log(line)
        for line in events.lines():
            with suppress(json.JSONDecodeError):
                on_event(json.loads(line))

    with log:
        child = subprocess.Popen(
            command(job), env=_environment(devices, threads), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=held
        )
    try:
        reason = _wait(child, stop, timeout, forward)
    finally:
        _kill_group(child)
    forward()
    if child.returncode == 0:
        artifacts = _sealed(job)
        with suppress(OSError):
            if log_to:
                log_to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(job.work / LOG, log_to)
            shutil.rmtree(job.work)
        return artifacts
    if reason == "stopped":
        raise Stopped(f"{job.name} was stopped; the next run goes on from its last checkpoint")
    if reason == "timeout":
        limit = job.stage.resources.timeout
        raise TimedOut(f"stages.{job.name}.resources.timeout: stopped after {limit}; raise it and run again, training goes on from its last checkpoint")
    raise _failure(job, child.returncode)


def command(job: Job) -> list[str]:
    """The shell line, as a list, that runs the stage again from its work folder."""
    processes = job.stage.resources.devices if job.stage.kind in DISTRIBUTED else 1
    nodes = job.stage.resources.nodes if job.stage.kind in DISTRIBUTED else 1
    spread = [f"--processes={processes}", f"--nodes={nodes}"] if processes > 1 or nodes > 1 else []
    return [sys.executable, "-m", "workflows.engine.worker", *spread, str(job.work / JOB)]


def _environment(devices: Sequence[str] | None, threads: int) -> dict[str, str]:
    return {
        **os.environ,
        PARENT: str(os.getpid()),
        "CUDA_VISIBLE_DEVICES": ",".join(devices or ()),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "DO_NOT_TRACK": "true",
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # a folder `workflows` of the user's, in the current folder, must not be taken for ours
    }


class Tail:
    """Follows a file that another process writes, from where it ends now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0

    def lines(self) -> list[str]:
        """The lines that were completed since the last call; a half-written one waits for its end."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        if not whole:
            return []
        self._at += len(whole) + 1
        return whole.decode("utf-8", "replace").split("\n")


def _wait(child: subprocess.Popen[bytes], stop: Stop, timeout: float, forward: Callable[[], None]) -> str:
    """Wait for the child's end, asking for it first when it must stop. Returns why it had to: `stopped`, `timeout` or nothing."""
    began, reason, asked = time.monotonic(), "", 0.0
    while child.poll() is None:
        forward()
        now = time.monotonic()
        if not reason and (stop.is_set() or now - began > timeout):
            reason, asked = "stopped" if stop.is_set() else "timeout", now
            child.terminate()  # not its group: processes that load data are needed for the step that it finishes
        elif reason and now - asked > stop.grace:
            _kill_group(child)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_POLL)
    return reason


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Leave nothing of the child's process group, such as processes that load data."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _sealed(job: Job) -> dict[str, Artifact]:
    artifacts = made(job)
    if lacking := [output or job.name for output in job.outputs if output not in artifacts]:
        raise StageDied(f"{job.name} ended without error but made no {', '.join(lacking)}{_advice(job)}")
    return artifacts


def made(job: Job) -> dict[str, Artifact]:
    """Those of the job's outputs that are sealed and whole."""
    found = {}
    for output, key in job.outputs.items():
        with suppress(FileNotFoundError, NotADirectoryError, ValueError):
            if not damaged(artifact := read(job.folder(key))):
                found[output] = artifact
    return found


def _failure(job: Job, code: int) -> Exception:
    error = job.work / ERROR
    if code == MENDABLE and error.exists():
        stated = json.loads(error.read_text(encoding="utf-8"))
        kinds: dict[str, type[Exception]] = {Collapse.__name__: Collapse, TryAgain.__name__: StageDied}
        return kinds.get(stated["kind"], UserError)(stated["message"])
    if code == DISK:
        return disk_error(job.workspace)
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    if -code == signal.SIGKILL or code == 128 + signal.SIGKILL:
        how += " (out of memory?)"
    last = (job.work / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
    return StageDied(f"{job.name} died: {how}{_advice(job)}" + "".join(f"\n  {line}" for line in last))


def _advice(job: Job) -> str:
    return f"; its output is in {job.work / LOG}, try it alone with: {shlex.join(command(job))}"


def disk_error(folder: Path) -> UserError:
    """What to tell a user whose disk takes no more."""
    free = shutil.disk_usage(folder).free
    what = f"the disk is full or read-only ({free // 1_000_000} MB free)"
    return UserError(f"cannot write below {folder}: {what}; make room and run again, training goes on from its last checkpoint")


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write below {folder}: {error.strerror}; make room or make it writable, then run again") from None


@contextmanager
def claim(job: Job, say: Callable[[str], None], stop: Stop) -> Iterator[int]:
    """Hold the stage, so that no other run makes it at the same time; wait for the one that does.

    Yields the lock's file descriptor, for `launch(held=...)`.

    Raises:
        Stopped: if `stop` was set while waiting.
    """
    path = job.work.with_name(f"{job.key}.lock")
    with _disk_errors(job.workspace):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    with file:
        wait_for_lock(file, lambda: say("another run is making this stage; waiting for it"), stop)
        yield file.fileno()


def wait_for_lock(file: BinaryIO, on_wait: Callable[[], None], stop: Stop) -> None:
    """Lock a file for this process alone. Raises `Stopped` if `stop` was set while waiting."""
    told = False
    while not try_lock(file):
        if not told:
            on_wait()
            told = True
        if stop.wait(_POLL):
            raise Stopped("stopped while waiting")


def try_lock(file: BinaryIO) -> bool:
    """Lock a file for this process alone, if nobody holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
