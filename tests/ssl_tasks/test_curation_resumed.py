"""A curation gives the same bytes in another process, with other numbers of threads, and after being killed at any point."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_curate import job_of, raw, save, smooth

from schemas.artifacts import Dataset, read
from schemas.job import Job
from schemas.stages import Curate, Ingest
from ssl_tasks.ingest import ingest
from ssl_tasks.tracking import Silent

STEPS: list[Any] = [
    "integrity",
    "exact_duplicates",
    "perceptual_duplicates",
    {"kind": "filter", "where": "width >= 32 and contrast > 2"},
    {"kind": "leakage", "against": ["other"], "splits": ["train"]},
    {"kind": "deduplicate", "threshold": {"precision": 0.9, "copies": 30}},
    {"kind": "cluster", "clusters": [12, 4]},
    {"kind": "balance", "keep": 70},
    {"kind": "retrieve", "seeds": "other", "neighbours": 20},
    {"kind": "typical", "keep": 45, "clusters": 5},
    {"kind": "diverse", "keep": 40},
    {"kind": "split", "val": 0.1, "test": 0.2},
]
CURATE = """
import sys
from schemas.job import Job
from ssl_tasks.curate import curate
from ssl_tasks.tracking import Silent
curate(Job.model_validate_json(sys.stdin.read()), Silent())
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 unlike pictures, 30 copies of some a little changed, an equal one, a broken file, and another set with seeds and a leak."""
    folder = tmp_path_factory.mktemp("pool")
    for i in range(120):
        save(smooth(i), folder / f"pool/{'ab'[i % 2]}/{i:03d}.png")
    for i in range(30):
        save(np.clip(smooth(i).astype(int) + 3 + i % 5, 0, 255).astype(np.uint8), folder / f"pool/{'ab'[i % 2]}/copy{i:03d}.jpg", quality=95)
    save(smooth(50), folder / "pool/a/again.bmp")
    (folder / "pool/a/broken.png").write_bytes(b"\x89PNG none")
    for i in range(8):
        save(smooth(200 + i if i else 5), folder / f"other/{i}.png")
    raw(folder, labels=True)
    job = job_of(Ingest.model_validate({"source": {"kind": "folder", "path": "other"}}), folder, "other")
    ingest(job, Silent())
    return folder


def job(workspace: Path, key: str) -> Job:
    return job_of(Curate.model_validate({"dataset": "raw", "steps": STEPS, "seed": 5}), workspace, key, {"raw": "raw", "other": "other"})


def start(workspace: Path, key: str, **environment: str) -> "subprocess.Popen[str]":
    child = subprocess.Popen([sys.executable, "-c", CURATE], stdin=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert child.stdin
    child.stdin.write(job(workspace, key).model_dump_json())
    child.stdin.close()
    return child


def forget(workspace: Path) -> None:
    """Leave nothing of what is known of images."""
    for path in sorted((workspace / ".sslflow/cache").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def whole(workspace: Path) -> tuple[Dataset, float]:
    """The curation, uninterrupted, and how long it took."""
    forget(workspace)
    began = time.monotonic()
    assert start(workspace, "whole", OMP_NUM_THREADS="1").wait(120) == 0
    dataset = read(workspace / ".sslflow/artifacts/whole")
    assert isinstance(dataset, Dataset)
    return dataset, time.monotonic() - began


@pytest.mark.slow
def test_every_step_decided_something(whole: tuple[Dataset, float]) -> None:
    removed = {name: value for name, value in whole[0].metrics.items() if name.endswith("/removed")}
    idle = [name for name, value in removed.items() if not value and not name.split("/")[1].endswith(("_cluster", "_split", "_filter"))]
    assert len(removed) == len(STEPS)
    assert not idle


@pytest.mark.slow
def test_another_process_with_another_number_of_threads_writes_the_same_bytes(workspace: Path, whole: tuple[Dataset, float]) -> None:
    forget(workspace)
    assert start(workspace, "threads", OMP_NUM_THREADS="3").wait(120) == 0
    assert read(workspace / ".sslflow/artifacts/threads").files == whole[0].files


@pytest.mark.slow
def test_killed_at_any_point_and_run_again_it_writes_the_same_bytes(workspace: Path, whole: tuple[Dataset, float]) -> None:
    forget(workspace)
    chance = random.Random(3)
    for _ in range(6):
        child = start(workspace, "killed", OMP_NUM_THREADS="2")
        time.sleep(chance.uniform(0.3, 1) * whole[1])
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert start(workspace, "killed", OMP_NUM_THREADS="1").wait(120) == 0
    assert read(workspace / ".sslflow/artifacts/killed").files == whole[0].files
