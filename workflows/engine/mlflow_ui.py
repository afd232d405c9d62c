"""Where MLflow is, whether it answers, and its user interface with few processes. Never imports MLflow."""

import base64
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn
from urllib.parse import unquote, urlsplit

from schemas.errors import UserError
from workflows.engine.mlflow_store import set_environment

_PORTS = 20
_START, _STOP = 120.0, 8.0
"""Seconds that a server may take to answer, and to stop by itself."""


def tracking_uri(workspace: Path) -> str:
    """Where runs are tracked: MLFLOW_TRACKING_URI, or else a SQLite file in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI", "") or f"sqlite:///{workspace.resolve() / 'mlflow.db'}"


def check(uri: str) -> None:
    """Refuse a tracking store that cannot be used, within a few seconds and without importing MLflow.

    Raises:
        schemas.errors.UserError: if the address is of no known kind, or nobody answers there.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        _check_server(uri)
    elif parts.scheme == "sqlite":
        _check_sqlite(Path(unquote(uri.removeprefix("sqlite:///"))))
    elif parts.scheme.split("+")[0] not in ("postgresql", "mysql", "mssql", "databricks"):
        raise UserError(f"MLFLOW_TRACKING_URI '{uri}' is not an address that MLflow can track to; use http://HOST:PORT or sqlite:////ABSOLUTE/PATH.db")


def _check_server(uri: str) -> None:
    advice = "start it, correct MLFLOW_TRACKING_URI, or unset that to track into a file"
    request = urllib.request.Request(f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1", headers=_credentials())
    try:
        with urllib.request.urlopen(request, timeout=4) as response:
            if "json" not in response.headers.get("content-type", ""):
                raise UserError(f"what answers at {uri} is not an MLflow server; {advice}")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            advice = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        raise UserError(f"the MLflow server at {uri} answers {error.code} {error.reason}; {advice}") from None
    except OSError as error:
        raise UserError(f"no MLflow server answers at {uri} ({getattr(error, 'reason', error)}); {advice}") from None


def _credentials() -> dict[str, str]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _check_sqlite(path: Path) -> None:
    try:
        if path.exists():
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=4).execute("PRAGMA schema_version").close()
        writable = os.access(path if path.exists() else path.parent, os.W_OK)
    except sqlite3.Error as error:
        raise UserError(f"cannot read the MLflow database {path}: {error}; move it away, or set MLFLOW_TRACKING_URI") from None
    if not writable:
        raise UserError(f"cannot write the MLflow database {path}; make it writable, or set MLFLOW_TRACKING_URI")


def ui(workspace: Path, port: int = 5000, prefect: str = "", say: Callable[[str], None] = print) -> None:
    """Serve MLflow's pages on the workspace's store until Ctrl-C; only say where they are if a server has them already.

    Args:
        port: the first to try; a busy one is passed over for the next.
        prefect: address of Prefect's pages, said too.

    Raises:
        schemas.errors.UserError: if no port is free, or the server does not start.
    """
    uri = tracking_uri(workspace)
    check(uri)
    if prefect:
        say(f"Prefect: {prefect}")
    if urlsplit(uri).scheme in ("http", "https"):
        say(f"MLflow:  {uri}")
        return
    free = _free_port(port)
    with tempfile.TemporaryFile("w+") as log:
        server = _start(uri, workspace, free, log)
        # Ctrl-C too: a shell starts what it puts in the background with SIGINT ignored.
        before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            _wait_until_it_answers(server, free, log)
            say(f"MLflow:  http://127.0.0.1:{free}   (Ctrl-C stops it)")
            server.wait()
            raise UserError(f"the MLflow server has stopped by itself: {_last_line(log)}")
        except KeyboardInterrupt:
            say("stopped")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            _stop(server)


def _free_port(first: int) -> int:
    for port in range(first, min(first + _PORTS, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise UserError(f"no free port from {first} to {first + _PORTS - 1}; give another with --port")


def _start(uri: str, workspace: Path, port: int, log: IO[str]) -> "subprocess.Popen[bytes]":
    """A server of two processes, in a group of its own: one web worker, no job runner."""
    set_environment()
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", uri, "--default-artifact-root", (workspace.resolve() / "mlartifacts").as_uri()]
    command = [sys.executable, "-m", "mlflow", "server", *address, *store]
    environment = {**os.environ, "MLFLOW_LOGGING_LEVEL": "WARNING"}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=workspace, start_new_session=True)


def _wait_until_it_answers(server: "subprocess.Popen[bytes]", port: int, log: IO[str]) -> None:
    for _ in range(int(_START / 0.25)):
        if server.poll() is not None:
            raise UserError(f"the MLflow server did not start: {_last_line(log)}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
        except OSError:
            time.sleep(0.25)
        else:
            return
    raise UserError(f"the MLflow server did not answer within {_START:.0f} s: {_last_line(log)}")


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    return next((line.strip() for line in reversed(log.read().splitlines()) if line.strip()), "it said nothing")


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """Stop the server and every process that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            break
        end = time.monotonic() + _STOP
        while server.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
    server.wait()


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
