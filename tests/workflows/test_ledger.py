"""The record of runs outlives the process that wrote it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import UserError
from workflows.engine.ledger import Exclusive, Run, last_keys, runs


def test_a_run_is_on_disk_from_its_first_moment(tmp_path: Path) -> None:
    run = Run(tmp_path, "digits", file="digits.yaml")
    run.stage("raw", status="running")
    (record,) = runs(tmp_path)
    assert record["status"] == "running"
    assert record["stages"] == {"raw": {"status": "running"}}


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    for second in (1, 3, 2):
        folder = tmp_path / f".sslflow/runs/20260101-00000{second}-x-aa"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"id": str(second), "status": "done"}))
    assert [r["id"] for r in runs(tmp_path)] == ["3", "2", "1"]


def test_a_run_whose_process_is_gone_has_died(tmp_path: Path) -> None:
    code = f"import os; from pathlib import Path; from workflows.engine.ledger import Run; Run(Path({str(tmp_path)!r}), 'digits'); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    (record,) = runs(tmp_path)
    assert record["status"] == "died"


RAW = {"status": "done", "outputs": {"": "old"}}
CLEAN = {"status": "failed", "outputs": {"": "kept"}}


def test_the_last_keys_of_each_stage_come_from_the_newest_run_that_came_to_it(tmp_path: Path) -> None:
    for second, stages in ((1, {"raw": RAW, "clean": CLEAN}), (2, {"raw": {**RAW, "outputs": {"": "new"}}, "clean": {**CLEAN, "status": "skipped"}})):
        folder = tmp_path / f".sslflow/runs/20260101-00000{second}-x-aa"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"id": str(second), "status": "done", "pipeline": "x", "stages": stages}))
    assert last_keys(tmp_path, "x") == {"raw": {"": "new"}, "clean": {"": "kept"}}


def test_a_pipeline_runs_once_at_a_time_in_a_workspace(tmp_path: Path) -> None:
    with (
        Exclusive(tmp_path, "digits"),
        pytest.raises(UserError, match=f"running already in this workspace \\(process {os.getpid()}\\)"),
        Exclusive(tmp_path, "digits"),
    ):
        pass
    with Exclusive(tmp_path, "digits"), Exclusive(tmp_path, "other"):
        pass
