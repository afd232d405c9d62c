"""One stage in a child process: what it hands back, how it is stopped, and that nothing of it is left behind."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import TryAgain, UserError
from schemas.job import Job
from schemas.resources import Resources
from schemas.sources import Folder, Scenes
from schemas.stages import Ingest
from workflows.engine import worker
from workflows.engine.launch import DISK, StageDied, Stop, Stopped, Tail, TimedOut, _failure, claim, command, launch
from workflows.engine.slots import Slots, visible

FOREVER = Scenes(count=200_000, size=64)


def job(workspace: Path, source: Scenes | Folder, **resources: Any) -> Job:
    return Job(
        name="raw", pipeline="p", stage=Ingest(source=source, resources=Resources(**resources)), key="k" * 20, outputs={"": "k" * 20}, workspace=workspace
    )


def wait_until(true: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def workers_of(workspace: Path) -> list[int]:
    """Processes that run a job of this workspace and are not merely waiting to be reaped."""
    lines = subprocess.run(["ps", "-ww", "-eo", "pid=,stat=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    fields = [line.split(None, 2) for line in lines]
    return [int(pid) for pid, state, arguments in fields if f"worker {workspace}/" in arguments and not state.startswith("Z")]


@contextmanager
def once_it_runs(workspace: Path, do: Callable[[int], object]) -> Iterator[None]:
    """Do something to the stage's process as soon as there is one."""

    def watch() -> None:
        wait_until(lambda: workers_of(workspace))
        do(workers_of(workspace)[0])

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


def test_a_stage_hands_back_its_artifact_and_its_events_and_leaves_only_its_log(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    asked = job(tmp_path, Scenes(count=4, size=16))
    artifacts = launch(asked, on_event=events.append, log_to=tmp_path / "logs" / "raw.txt")
    assert artifacts[""].key == "k" * 20
    assert artifacts[""].folder == tmp_path / ".sslflow" / "artifacts" / ("k" * 20)
    assert {"progress", "metrics"} <= {e["event"] for e in events}
    assert not asked.work.exists()
    assert (tmp_path / "logs" / "raw.txt").exists()


def test_what_a_user_can_mend_comes_back_in_the_stages_own_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere") as caught:
        launch(job(tmp_path, Folder(path="nowhere")), on_event=lambda _: None)
    assert "\n" not in str(caught.value)


def test_a_killed_stage_says_how_it_died_and_how_to_try_it_alone(tmp_path: Path) -> None:
    asked = job(tmp_path, FOREVER)

    with once_it_runs(tmp_path, lambda pid: os.kill(pid, signal.SIGKILL)), pytest.raises(StageDied, match=r"killed by SIGKILL \(out of memory\?\)") as caught:
        launch(asked, on_event=lambda _: None, timeout=60)
    assert f"-m workflows.engine.worker {asked.work}/job.json" in str(caught.value)
    assert asked.work.is_dir(), "what a retry goes on from"


def test_a_timeout_ends_the_process_and_names_the_key_to_change(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"stages\.raw\.resources\.timeout: stopped after 12h"):
        launch(job(tmp_path, FOREVER), on_event=lambda _: None, timeout=0.5)
    assert time.monotonic() - began < 20
    assert not workers_of(tmp_path)


@pytest.mark.slow
def test_a_stage_that_is_asked_to_stop_ends_at_once(tmp_path: Path) -> None:
    stop = Stop()
    with once_it_runs(tmp_path, lambda _: stop.set()), pytest.raises(Stopped):
        launch(job(tmp_path, FOREVER), on_event=lambda _: None, stop=stop, timeout=60)
    assert not workers_of(tmp_path)


@pytest.mark.slow
def test_no_process_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from schemas.job import Job
        from workflows.engine.launch import launch
        launch(Job.model_validate_json(Path(sys.argv[1]).read_text()), on_event=print)
    """)
    (tmp_path / "asked.json").write_text(job(tmp_path, FOREVER).model_dump_json())
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "asked.json")])
    wait_until(lambda: workers_of(tmp_path))
    parent.kill()
    parent.wait()
    wait_until(lambda: not workers_of(tmp_path))


@pytest.mark.slow
def test_a_stage_is_replayed_by_one_shell_line(tmp_path: Path) -> None:
    asked = job(tmp_path, Scenes(count=4, size=16))
    asked.work.mkdir(parents=True)
    (asked.work / "job.json").write_text(asked.model_dump_json())
    subprocess.run(command(asked), check=True)
    assert (asked.folder("k" * 20) / "artifact.json").exists()


def test_training_on_two_devices_starts_two_processes_and_listing_images_never_does(tmp_path: Path) -> None:
    assert "--processes=2" not in command(job(tmp_path, FOREVER, devices=2))
    pretrain: dict[str, Any] = {"kind": "pretrain", "dataset": "raw", "method": {"kind": "simclr"}, "encoder": {"name": "resnet10t", "image_size": 32}}
    training = Job.model_validate({**job(tmp_path, FOREVER).model_dump(), "stage": {**pretrain, "resources": {"devices": 2}}})
    assert "--processes=2" in command(training)


def test_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    error = _failure(job(tmp_path, FOREVER), DISK)
    assert isinstance(error, UserError)
    assert "full or read-only" in str(error)


def test_a_folder_that_cannot_be_written_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / ".sslflow").write_text("a file where a folder belongs")
    with pytest.raises(UserError, match="cannot write below"):
        launch(job(tmp_path, FOREVER), on_event=lambda _: None)


def test_two_runs_never_make_the_same_stage_at_once(tmp_path: Path) -> None:
    asked, said, order = job(tmp_path, FOREVER), [], []

    def second() -> None:
        with claim(asked, said.append, Stop()):
            order.append("second")

    with claim(asked, said.append, Stop()):
        thread = threading.Thread(target=second)
        thread.start()
        wait_until(lambda: said)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert said == ["another run is making this stage; waiting for it"]


def test_waiting_for_another_run_can_be_stopped(tmp_path: Path) -> None:
    stop = Stop()
    stop.set()
    with claim(job(tmp_path, FOREVER), print, Stop()), pytest.raises(Stopped), claim(job(tmp_path, FOREVER), lambda _: None, stop):
        pass


def test_a_file_is_followed_from_its_end_by_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("old\n")
    tail = Tail(path)
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert tail.lines() == ["one"]
        file.write("o\n")
    assert tail.lines() == ["two"]
    assert tail.lines() == []


def slots(folder: Path, count: int) -> Slots:
    return Slots("gpu", tuple(map(str, range(count))), 1, folder)


def test_two_holders_never_have_the_same_device_and_a_third_waits(tmp_path: Path) -> None:
    waited: list[str] = []
    with slots(tmp_path, 2).take(1, lambda: None, Stop()) as (first, _), slots(tmp_path, 2).take(1, lambda: None, Stop()) as (second, _):
        assert sorted(first + second) == ["0", "1"]
        stop = Stop()
        with pytest.raises(Stopped), slots(tmp_path, 2).take(1, lambda: (waited.append("waits"), stop.set())[0], stop):
            pass
    assert waited == ["waits"]
    with slots(tmp_path, 2).take(2, lambda: None, Stop()) as (both, _):
        assert both == ["0", "1"]


def test_a_device_is_free_again_when_its_holder_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from workflows.engine.launch import Stop; from workflows.engine.slots import Slots\n"
        "with Slots('gpu', ('0',), 1, Path(sys.argv[1])).take(1, print, Stop()): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    holder.kill()
    holder.wait()
    with slots(tmp_path, 1).take(1, lambda: pytest.fail("waits for a dead process"), Stop()) as (devices, _):
        assert devices == ["0"]


@pytest.mark.parametrize(
    ("allowed", "seen"),
    [
        (None, ["GPU-a", "GPU-b"]),
        ("1", ["GPU-b"]),
        ("1,0", ["GPU-b", "GPU-a"]),
        ("GPU-b", ["GPU-b"]),
        ("", []),
        ("-1", []),
        ("0,7,1", ["GPU-a"]),
        ("MIG-x", ["MIG-x"]),
    ],
)
def test_only_gpus_that_are_visible_are_shared_out(allowed: str | None, seen: list[str]) -> None:
    assert visible(["GPU-a", "GPU-b"], allowed) == seen


def test_a_stage_sees_only_the_devices_of_its_slot() -> None:
    probe = "import json, os; print(json.dumps({k: os.environ.get(k) for k in ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS')}))"
    from workflows.engine.launch import _environment

    seen = subprocess.run([sys.executable, "-c", probe], env=_environment(["GPU-b"], 3), capture_output=True, text=True, check=True).stdout
    assert json.loads(seen) == {"CUDA_VISIBLE_DEVICES": "GPU-b", "OMP_NUM_THREADS": "3"}


def test_what_the_next_try_gets_past_by_itself_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike what a user must mend, which comes through the same file."""

    def left_out(*_: Any) -> None:
        raise TryAgain("small ended on one of 2 devices")

    monkeypatch.setattr("ssl_tasks.run.run", left_out)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the worker is this very process
    asked = job(tmp_path, FOREVER)
    asked.work.mkdir(parents=True)
    (asked.work / "job.json").write_text(asked.model_dump_json())
    code = worker.main([str(asked.work / "job.json")])
    error = _failure(asked, code)
    assert isinstance(error, StageDied)
    assert str(error) == "small ended on one of 2 devices"
