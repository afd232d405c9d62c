"""Shards as tasks of a real Prefect server, on threads and on a real Dask cluster: what comes out is the same, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from schemas.artifacts import sha256
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Curate
from ssl_tasks.curate.embed import Shrink
from ssl_tasks.curate.shards import Mapper, Progress, make_known, threads
from ssl_tasks.curate.vectors import vectors, vectors_of
from ssl_tasks.data.known import Known
from workflows.engine import mapped, servers

COUNT, SIDE = mapped.SMALL + 104, 16


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server that the environment names, as it does for the process of a stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        try:
            servers.up(worker=False)
            with servers.named() as found:
                yield found
        finally:
            servers.down()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("mapped")
    (workspace / "pool").mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE), np.uint8)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(workspace / f"pool/{number}.bmp")
    return workspace


@pytest.fixture(scope="module")
def files(workspace: Path) -> pa.Table:
    uris = [f"pool/{number}.bmp" for number in range(COUNT)]
    return pa.table({"uri": uris, "sha256": [sha256(workspace / uri) for uri in uris]})


def job_with(workspace: Path, name: str, **resources: Any) -> Job:
    stage = Curate.model_validate({"dataset": "raw", "steps": ["integrity"], "resources": resources})
    return Job(name=name, pipeline="mapped", stage=stage, key="key", outputs={"": "key"}, workspace=workspace)


class Slow(Shrink):
    """Takes a second more a shard, so that what comes in between finds some not begun."""

    def __call__(self, files: pa.Table) -> pa.Table:
        time.sleep(1)
        return super().__call__(files)


def made(files: pa.Table, workspace: Path, folder: Path, mapper: Mapper, progress: Progress = lambda _done, _of: None, work: type[Shrink] = Shrink) -> bytes:
    known = Known(folder, vectors_of(SIDE**2))
    make_known(files, work(workspace, SIDE), known, mapper, progress)
    return vectors(known, files["sha256"].combine_chunks()).tobytes()


def ask(url: str, path: str, **body: Any) -> list[dict[str, Any]]:
    request = Request(f"{url}{path}", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as reply:
        return list(json.load(reply))


def runs(url: str, flow: str) -> tuple[list[str], dict[str, str]]:
    """States of a flow's runs, and of their tasks by name."""
    (found,) = [ask(url, "/flow_runs/filter", flows={"name": {"any_": [flow]}})]
    tasks = ask(url, "/task_runs/filter", flow_runs={"id": {"any_": [run["id"] for run in found]}})
    return [run["state"]["type"] for run in found], {task["name"]: task["state"]["type"] for task in tasks}


FEW = r"""
import sys
from pathlib import Path
import pyarrow as pa
from schemas.job import Job
from ssl_tasks.curate.shards import Shard
from workflows.engine.mapped import mapper
job = Job.model_validate_json(sys.argv[1])
class Counted:
    def __init__(self, count): self.count = count
    def __call__(self): sys.stdout.write(f"made {self.count}\n")
list(mapper(job, print)([Counted(2000), Counted(2000)]))
list(mapper(job, print)([Counted(9000)]))
assert not {"prefect", "distributed"} & set(sys.modules)
"""


@pytest.mark.parametrize("resources", [{}, {"runner": "dask", "scheduler": "tcp://127.0.0.1:1"}], ids=["threads", "dask"])
def test_few_images_or_one_shard_load_no_engine(tmp_path: Path, resources: dict[str, Any]) -> None:
    job = job_with(tmp_path, "clean", **resources).model_dump_json()
    done = subprocess.run([sys.executable, "-c", FEW, job], capture_output=True, text=True, check=True)
    assert done.stdout == "made 2000\nmade 2000\nmade 9000\n"


def test_dask_that_is_not_installed_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"stages\.clean\.resources\.runner: dask is not installed: pip install 'sslflow\[dask\]', or take threads"):
        mapped.mapper(job_with(tmp_path, "clean", runner="dask"), print)
    mapped.mapper(job_with(tmp_path, "clean"), print)


@pytest.mark.parametrize("named", ["", "http://127.0.0.1:9/api"])
def test_without_a_server_the_work_is_done_on_threads_and_one_line_says_so(
    files: pa.Table, workspace: Path, tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", named)
    notes: list[str] = []
    mapper = mapped.mapper(job_with(workspace, "alone"), notes.append)
    assert made(files, workspace, tmp_path / "alone", mapper) == made(files, workspace, tmp_path / "threads", threads)
    (note,) = notes
    why = f"no Prefect server answers at {named}" if named else "no Prefect server is named by PREFECT_API_URL"
    assert note.startswith(f"{why}: ")


@pytest.mark.slow
def test_shards_are_tasks_of_a_flow_and_what_they_make_is_what_threads_make(files: pa.Table, workspace: Path, tmp_path: Path, url: str) -> None:
    told: list[tuple[int, int]] = []
    mapper = mapped.mapper(job_with(workspace, "clean"), pytest.fail)
    flowed = made(files, workspace, tmp_path / "flowed", mapper, lambda done, of: told.append((done, of)))
    assert flowed == made(files, workspace, tmp_path / "threads", threads)
    assert told == [(number, len(told)) for number in range(1, len(told) + 1)]
    states, tasks = runs(url, "mapped.clean")
    assert states == ["COMPLETED"]
    assert tasks == {f"shrink {number}": "COMPLETED" for number in range(1, len(told) + 1)}


@pytest.mark.slow
def test_an_interrupted_flow_ends_at_once_as_cancelled_and_the_next_goes_on(files: pa.Table, workspace: Path, tmp_path: Path, url: str) -> None:
    def interrupt(done: int, _of: int) -> None:
        if done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    def terminate(number: int, _frame: Any) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, terminate)
    mapper = mapped.mapper(job_with(workspace, "stopped"), pytest.fail)
    try:
        with pytest.raises(SystemExit, match="143"):
            made(files, workspace, tmp_path / "stopped", mapper, interrupt, Slow)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert runs(url, "mapped.stopped")[0] == ["CANCELLED"]
    left = Known(tmp_path / "stopped", vectors_of(SIDE**2)).missing(files["sha256"].combine_chunks())
    assert 0 < len(left) < COUNT
    assert made(files, workspace, tmp_path / "stopped", threads) == made(files, workspace, tmp_path / "threads", threads)


@contextmanager
def cluster(workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A Dask scheduler and workers, each a process of its own, as `dask scheduler` and `dask worker` start them."""
    port = 20_000 + os.getpid() % 20_000
    address = f"tcp://127.0.0.1:{port}"
    line = [sys.executable, "-m", "dask"]
    scheduler = subprocess.Popen([*line, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"], stderr=subprocess.DEVNULL)
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
    processes = [subprocess.Popen([*line, "worker", address, *options], stderr=subprocess.DEVNULL) for _ in range(workers)]
    try:
        yield address, processes
    finally:
        for process in (*processes, scheduler):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_dask_worker_that_is_killed_loses_nothing(files: pa.Table, workspace: Path, tmp_path: Path, url: str) -> None:
    with cluster(2) as (address, workers):
        from distributed import Client

        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)

        def kill(done: int, _of: int) -> None:
            if done == 1:
                workers[0].send_signal(signal.SIGKILL)

        mapper = mapped.mapper(job_with(workspace, "dasked", runner="dask", scheduler=address), pytest.fail)
        assert made(files, workspace, tmp_path / "dasked", mapper, kill) == made(files, workspace, tmp_path / "threads", threads)
        assert workers[0].wait(10) == -signal.SIGKILL
        assert workers[1].poll() is None
    states, tasks = runs(url, "mapped.dasked")
    assert states == ["COMPLETED"]
    assert set(tasks.values()) == {"COMPLETED"}


RESOURCES: dict[str, dict[str, Any]] = {"threads": {}, "dask": {"runner": "dask"}}


@pytest.mark.slow
@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("runner", RESOURCES)
def test_a_users_error_in_a_shard_is_that_error_and_other_shards_stay_known(files: pa.Table, workspace: Path, tmp_path: Path, runner: str) -> None:
    (tmp_path / "pool").mkdir()
    for number in range(COUNT):
        if number != COUNT // 2:
            os.link(workspace / f"pool/{number}.bmp", tmp_path / f"pool/{number}.bmp")
    mapper = mapped.mapper(job_with(tmp_path, "broken", **RESOURCES[runner]), pytest.fail)
    with pytest.raises(UserError, match=rf"^cannot read image .*pool/{COUNT // 2}\.bmp \(No such file or directory\): put it back"):
        made(files, tmp_path, tmp_path / "known", mapper)
    left = Known(tmp_path / "known", vectors_of(SIDE**2)).missing(files["sha256"].combine_chunks())
    assert 0 < len(left) < COUNT


@pytest.mark.slow
@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("runner", RESOURCES)
def test_any_other_error_comes_out_as_it_is_for_a_retry(files: pa.Table, workspace: Path, tmp_path: Path, runner: str) -> None:
    mapper = mapped.mapper(job_with(workspace, "crashes", **RESOURCES[runner]), pytest.fail)
    with pytest.raises(ValueError, match="must be > 0"):
        make_known(files, Shrink(workspace, 0), Known(tmp_path, vectors_of(1)), mapper, lambda _done, _of: None)


@pytest.mark.slow
@pytest.mark.usefixtures("url")
def test_a_scheduler_that_is_not_there_is_one_line_within_seconds(files: pa.Table, workspace: Path, tmp_path: Path) -> None:
    mapper = mapped.mapper(job_with(workspace, "lonely", runner="dask", scheduler="tcp://127.0.0.1:9"), pytest.fail)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"^stages\.lonely\.resources\.scheduler: no Dask scheduler answers at tcp://127\.0\.0\.1:9; start one with"):
        made(files, workspace, tmp_path, mapper)
    assert time.monotonic() - began < 30


PIPELINE = f"""\
name: seen
stages:
  raw: {{kind: ingest, source: {{kind: scenes, count: {COUNT * 4 // 3}, size: 16}}}}
  clean: {{kind: curate, dataset: raw, steps: [integrity, {{kind: embed, embedding: pixels}}]}}
"""


def wait_for(found: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.5)


@pytest.mark.slow
def test_a_run_shows_its_shards_on_the_server_that_it_runs_on(tmp_path: Path, url: str) -> None:
    (tmp_path / "seen.yaml").write_text(PIPELINE)
    line = [Path(sys.executable).with_name("sslflow"), "run", "seen.yaml"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for(lambda: runs(url, "seen.clean")[0] == ["COMPLETED", "COMPLETED"], 20)
    tasks = runs(url, "seen.clean")[1]
    assert {name.split()[0] for name in tasks} == {"measure", "shrink"}
    assert set(tasks.values()) == {"COMPLETED"}
    assert runs(url, "seen") == (["COMPLETED"], {"raw": "COMPLETED", "clean": "COMPLETED"})
    (log,) = (tmp_path / ".sslflow/runs").glob("*/logs/clean.txt")
    assert log.read_text() == ""
