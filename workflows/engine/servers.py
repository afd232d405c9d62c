"""Servers: which Prefect API a run talks to, and the ones that we start ourselves.

A run uses the server that `PREFECT_API_URL` names, else the one that `sslflow up` left, else one of its workspace that lives as
long as a run uses it. A process that we start says so in a state file and holds a lock on it while it lives: no stale file is
ever taken for a server, and no foreign process for ours.
"""

import argparse
import fcntl
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from schemas.errors import UserError

POOL = "local"
_PORT = 4200
_START = 120.0
_URL = "PREFECT_API_URL"


@dataclass(frozen=True)
class Service:
    """A process that we started and that still runs."""

    url: str
    pid: int


def address() -> str | None:
    """The API that later runs find by themselves: what `PREFECT_API_URL` names or `sslflow up` left; None if there is neither."""
    if url := os.environ.get(_URL):
        return url
    service = running(_state() / "server.json")
    return service.url if service else None


def check(url: str) -> None:
    """Raises UserError if no Prefect API answers at `url`."""
    if not _healthy(url, timeout=10):
        raise UserError(f"no Prefect server answers at {url}; start it, or unset {_URL} to run without one")


@contextmanager
def named() -> Iterator[str]:
    """The API that is named or left by `up`, for what needs one that stays.

    Raises:
        UserError: if there is none, or it does not answer.
    """
    if not (url := address()):
        raise UserError(f"no Prefect server to talk to; start one with `sslflow up`, or set {_URL}")
    check(url)
    with _environment({**QUIET, _URL: url}):
        yield url


@contextmanager
def api(workspace: Path) -> Iterator[str]:
    """The API of a run, for as long as the block lasts: the environment names it, and a server of the workspace is kept.

    Raises:
        UserError: if the named server does not answer, or ours does not start.
    """
    if address():
        with named() as url:
            yield url
        return
    home = workspace / ".sslflow" / "prefect"
    with _ephemeral(home) as url, _environment({**QUIET, _URL: url, "PREFECT_HOME": str(home)}):
        yield url


TELEMETRY_OFF = {"DO_NOT_TRACK": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
QUIET = {**TELEMETRY_OFF, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL"}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and tell Prefect if it is loaded already; put back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    _refresh()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _refresh()


def _refresh() -> None:
    if "prefect.context" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


@contextmanager
def _ephemeral(home: Path) -> Iterator[str]:
    """The server of a workspace: started by the first run that needs it, stopped when the last is gone, however it ends."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        users = (home / "users.lock").open("a")
    except OSError as error:
        raise UserError(f"cannot write to {home}: {error.strerror}; make it writable or run in another folder") from None
    with users:
        with (home / "start.lock").open("a") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)  # waits while the server of earlier runs is stopping
            state = home / "server.json"
            options = ["--no-ui", "--no-scheduler", "--no-late-runs"]
            service = running(state) or _start_server(home, state, _free_port(), options, while_used=home / "users.lock")
        try:
            yield service.url
        finally:
            with suppress(BlockingIOError):  # others use it: the last of them stops it
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop(state)


def _start_server(home: Path, state: Path, port: int, options: list[str], while_used: Path | None = None) -> Service:
    url = f"http://127.0.0.1:{port}/api"
    settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"}
    line = ["server", "start", "--host", "127.0.0.1", "--port", str(port), *options]
    return _start(state, url, line, settings, lambda: _healthy(url), while_used)


def _start(state: Path, url: str, line: list[str], settings: Mapping[str, str], ready: Callable[[], bool], while_used: Path | None = None) -> Service:
    """Start `prefect LINE` apart from this terminal and wait until it is ready.

    Raises:
        UserError: with the last line of its log, if it ends or takes too long.
    """
    log = state.with_suffix(".log")
    environment = {k: v for k, v in os.environ.items() if k != _URL} | {**TELEMETRY_OFF, **settings}
    tied = [f"--while-used={while_used}"] if while_used else []
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "workflows.engine.servers", *tied, str(state), url, *line],
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


def _stop(state: Path) -> bool:
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


def up(worker: bool) -> None:
    """Start a persistent server on loopback, and with `worker` a process worker on the pool `local`; say where they are.

    Raises:
        UserError: if one of them does not start.
    """
    folder = _state()
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "server.json"
    server = running(state)
    said = "runs already" if server else "started"
    server = server or _start_server(folder, state, _PORT if _is_free(_PORT) else _free_port(), [])
    print(f"Prefect server {said} at {server.url.removesuffix('/api')} (process {server.pid}, log {state.with_suffix('.log')})")
    if (named := os.environ.get(_URL)) and named != server.url:
        print(f"note: runs from this shell go to {named}, as {_URL} is set")
    if worker:
        _up_worker(folder / "worker.json", server.url)
    print("stop with: sslflow down")


def _up_worker(state: Path, url: str) -> None:
    found = running(state)
    name = f"sslflow-{socket.gethostname()}"
    settings = {_URL: url, "PREFECT_WORKER_QUERY_SECONDS": "2"}
    line = ["worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    service = found or _start(state, url, line, settings, lambda: _online(url, name))
    print(f"Prefect worker {'runs already' if found else 'started'} on the pool '{POOL}' (process {service.pid}, log {state.with_suffix('.log')})")


def down() -> None:
    """Stop what `up` started."""
    stopped = [name for name in ("worker", "server") if _stop(_state() / f"{name}.json")]
    print(f"stopped: {', '.join(stopped)}" if stopped else "nothing to stop")


def _state() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "sslflow"


def _healthy(url: str, timeout: float = 2.0) -> bool:
    try:
        with urlopen(f"{url.rstrip('/')}/health", timeout=timeout):
            return True
    except HTTPError:
        return True
    except (URLError, OSError, ValueError):
        return False


def _online(url: str, name: str) -> bool:
    asked = Request(f"{url}/work_pools/{POOL}/workers/filter", data=b"{}", headers={"Content-Type": "application/json"})
    try:
        with urlopen(asked, timeout=5) as reply:
            return any(w["name"] == name and w["status"] == "ONLINE" for w in json.load(reply))
    except (URLError, OSError):
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
