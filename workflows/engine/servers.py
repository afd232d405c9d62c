"""Servers: which Prefect API a run talks to, and the ones that we start ourselves.

A run uses the server that `PREFECT_API_URL` names, else the one that `sslflow up` left, else one of its workspace that lives as
long as a run uses it.
"""

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from schemas.errors import UserError
from workflows.engine.launch import Stop, Stopped
from workflows.engine.services import TELEMETRY_OFF, Service, running, start
from workflows.engine.services import stop as end
from workflows.engine.slots import Slots

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

POOL = "local"
_PORT = 4200
_LEASE = 60.0
_FLUSH = 60.0
_LOOK_UP = 5.0
_START = 120.0
_URL = "PREFECT_API_URL"


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
        with (home / "start.lock").open("a") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)  # waits while the server of earlier runs is stopping
            state = home / "server.json"
            options = ["--no-ui", "--no-scheduler", "--no-late-runs"]
            service = running(state) or _start_server(home, state, _free_port(), options, while_used=home / "users.lock")
        try:
            yield service.url
        finally:
            with suppress(BlockingIOError):  # others use it: the last of them stops it
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end(state)


def _start_server(home: Path, state: Path, port: int, options: list[str], while_used: Path | None = None) -> Service:
    url = f"http://127.0.0.1:{port}/api"
    settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"}
    line = ["server", "start", "--host", "127.0.0.1", "--port", str(port), *options]
    return start(state, url, line, settings, lambda: _healthy(url), while_used)


def ensure_limit(slots: Slots) -> None:
    """Make the global concurrency limit that shows this host's slots in Prefect; the locks of `slots` decide, this one shows and guards."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(limit_name(slots), len(slots.devices))


def limit_name(slots: Slots) -> str:
    """Of the limit, such as `sslflow-gpu-myhost`."""
    return f"sslflow-{slots.name}-{socket.gethostname().lower()}"


@contextmanager
def hold_limit(slots: Slots, count: int, say: Callable[[str], None], stop: Stop) -> Iterator[None]:
    """Hold `count` slots of the limit, as well as can be: a lost server does not stop the work.

    A run that was killed leaves its slots taken until their lease ends, a minute later.

    Raises:
        Stopped: if `stop` was set while waiting.
    """
    from prefect.concurrency.sync import concurrency

    stack, told = ExitStack(), False
    while True:
        try:
            held = concurrency(limit_name(slots), count, timeout_seconds=_LOOK_UP, lease_duration=_LEASE, strict=True, raise_on_lease_renewal_failure=False)
            stack.enter_context(held)
            break
        except TimeoutError:
            if not told:
                say(f"waits for Prefect's limit {limit_name(slots)}")
                told = True
            if stop.is_set():
                raise Stopped from None
        except Exception as error:
            say(f"Prefect's limit {limit_name(slots)} cannot be had ({type(error).__name__}); this host's own locks hold")
            break
    try:
        yield
    finally:
        with suppress(Exception):
            stack.close()


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
    service = found or start(state, url, line, settings, lambda: _online(url, name))
    print(f"Prefect worker {'runs already' if found else 'started'} on the pool '{POOL}' (process {service.pid}, log {state.with_suffix('.log')})")


def down() -> None:
    """Stop what `up` started."""
    stopped = [name for name in ("worker", "server") if end(_state() / f"{name}.json")]
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


def drain(client: "SyncPrefectClient", flow_run: "UUID", tasks: int) -> None:
    """Wait until the server knows how every task of the run ended: what is under way when it stops is lost."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)
    deadline = time.monotonic() + _FLUSH
    while time.monotonic() < deadline:
        runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])))
        if len(runs) >= tasks and all(r.state and r.state.is_final() for r in runs):
            return
        time.sleep(0.2)
