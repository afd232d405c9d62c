"""A training that is interrupted or killed, through the real command line, goes on where it was and ends with the same weights."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from command_line import SHAPES, SSLFLOW, environment

from schemas.artifacts import read
from ssl_tasks.run import run
from ssl_tasks.tracking import JSONLines
from workflows.engine.run import plan_pipeline
from workflows.engine.slots import host

pytestmark = pytest.mark.slow


def workspace(folder: Path, checkpoint_steps: int = 20) -> Path:
    folder.mkdir()
    (folder / "shapes.yaml").write_text(f"{SHAPES}    train: {{epochs: 300, batch_size: 64, checkpoint_steps: {checkpoint_steps}, monitors: 2}}\n")
    return folder


def start(folder: Path) -> subprocess.Popen[str]:
    environ = environment(XDG_STATE_HOME=str(folder / "state"))
    return subprocess.Popen([SSLFLOW, "run", "shapes.yaml"], cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def weights(folder: Path) -> str:
    """Hash of the teacher's weights, which must be whole."""
    return read(folder / ".sslflow/latest/shapes/teacher").files["model.safetensors"]


def until_step(folder: Path, step: int) -> int:
    """Wait until the training is past a step; the process id of the training."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for events in folder.glob(".sslflow/work/*/events.jsonl"):
            steps = [int(s) for s in re.findall(r'"progress".*?"step": (\d+), "steps": 300', events.read_text())]
            if steps and max(steps) > step:
                return processes(folder)[0]
        time.sleep(0.1)
    pytest.fail("the training did not come so far")


def processes(folder: Path) -> list[int]:
    """Processes that run a stage of the workspace."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "workflows.engine.worker" in line and f"{folder}/" in line:
            found.append(int(entry.parent.name))
    return found


def resumed_at(output: str) -> int:
    found = re.search(r"teacher: goes on from step (\d+)", output)
    assert found, output
    return int(found[1])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the weights of a training without any orchestrator, in this process."""
    folder = workspace(tmp_path_factory.mktemp("runs") / "uninterrupted")
    plan = plan_pipeline(folder / "shapes.yaml", folder)
    torch.set_num_threads(host(folder).cpu.threads)
    for planned in plan.stages.values():
        (made,) = run(plan.job(planned), JSONLines(folder / "events.jsonl")).values()
    return made.files["model.safetensors"]


def test_ctrl_c_leaves_no_process_and_the_next_run_goes_on_at_the_step_it_was_at(tmp_path: Path, uninterrupted: str) -> None:
    folder = workspace(tmp_path / "interrupted", checkpoint_steps=100_000)  # so that only the interrupt can have written one
    process = start(folder)
    until_step(folder, 60)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not processes(folder)
    again = start(folder)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert resumed_at(output) >= 60
    assert weights(folder) == uninterrupted


def test_a_killed_training_is_tried_again_from_its_last_checkpoint_in_the_same_run(tmp_path: Path, uninterrupted: str) -> None:
    folder = workspace(tmp_path / "killed")
    process = start(folder)
    os.kill(until_step(folder, 60), signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "killed by SIGKILL (out of memory?)" in output
    assert resumed_at(output) >= 60
    assert weights(folder) == uninterrupted
