"""Services: `prefect` processes that we start apart from the terminal, find again, and stop.

Such a process writes a state file and holds a lock on it while it lives: no stale file is ever taken for a running service, and
no foreign process for ours.
"""

import argparse
import fcntl
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from schemas.errors import UserError

TELEMETRY_OFF = {"DO_NOT_TRACK": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
_START = 120.0


@dataclass(frozen=True)
class Service:
    """A process that we started and that still runs."""

    url: str
    pid: int


def start(state: Path, url: str, line: list[str], settings: Mapping[str, str], ready: Callable[[], bool], while_used: Path | None = None) -> Service:
    """Start `prefect LINE` apart from this terminal and wait until it is ready.

    Raises:
        UserError: with the last line of its log, if it ends or takes too long.
    """
    log = state.with_suffix(".log")
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | {**TELEMETRY_OFF, **settings}
    tied = [f"--while-used={while_used}"] if while_used else []
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "workflows.engine.services", *tied, str(state), url, *line],
            env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + _START
    while process.poll() is None and time.monotonic() < deadline:
        if ready() and (service := running(state)):
            return service
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["no output"]
    raise UserError(f"`prefect {' '.join(line[:2])}` did not start: {last[0]} (all of it in {log})")


def running(state: Path) -> Service | None:
    """The process behind a state file, if it is alive."""
    try:
        with state.open() as file:
            if _try_shared(file):
                return None
            return Service(**json.load(file))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _try_shared(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def stop(state: Path) -> bool:
    """Stop the process behind a state file, with all of its group. Returns whether there was one."""
    if not (service := running(state)):
        return False
    # A worker turns its first SIGTERM into SIGINT, which a shell's background process ignores: hence twice.
    for number, patience in ((signal.SIGTERM, 8.0), (signal.SIGTERM, 8.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(service.pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            _reap(service.pid)
            if running(state) is None:
                state.unlink(missing_ok=True)
                return True
            time.sleep(0.05)
    return True


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _serve() -> None:
    """Be one of the processes above: hold the state file and run the `prefect` command line, as long as it is used."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--while-used", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("url")
    parser.add_argument("line", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    state = options.state.open("a")
    fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
    state.truncate(0)
    state.write(json.dumps({"url": options.url, "pid": os.getpid()}))
    state.flush()
    if options.while_used:
        threading.Thread(target=_end_when_unused, args=(options.while_used,), daemon=True).start()
    sys.argv = ["prefect", *options.line]
    runpy.run_module("prefect", run_name="__main__")


def _end_when_unused(lock: Path) -> None:
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(8)
        os._exit(1)


if __name__ == "__main__":
    _serve()
