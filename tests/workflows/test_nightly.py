"""Nightly recipes: one a method, a few lines over one base, gated by what was measured, deployable as a folder."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import InvalidPipeline, UserError
from schemas.load import load, loads
from schemas.methods import Method
from schemas.shapes import kinds
from schemas.stages import Evaluate, Pretrain
from workflows.engine import ledger, servers
from workflows.engine.deploy import deploy, parameter_schema, scheduled

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "workflows" / "nightly"
RECIPES = sorted(file.stem for file in FOLDER.glob("*.yaml") if file.stem != "base")
MEASURED = json.loads((ROOT / "benchmarks" / "nightly.json").read_text())["recipes"]


def test_recipes_are_named_after_methods() -> None:
    assert len(RECIPES) >= 14
    assert set(RECIPES) <= set(kinds(Method))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_its_method_over_the_base_and_forces_what_it_judges(recipe: str) -> None:
    pipeline = load(FOLDER / f"{recipe}.yaml")
    encoder, report = pipeline.stages["encoder"], pipeline.stages["report"]
    assert isinstance(encoder, Pretrain)
    assert isinstance(report, Evaluate)
    assert (pipeline.name, encoder.method.kind) == (f"nightly_{recipe}", recipe)
    assert pipeline.schedule
    assert pipeline.schedule.force == ["encoder", "report"]
    assert len((FOLDER / f"{recipe}.yaml").read_text().splitlines()) <= 14


@pytest.mark.parametrize("recipe", RECIPES)
def test_thresholds_are_those_that_were_measured_and_below_what_every_seed_reached(recipe: str) -> None:
    report = load(FOLDER / f"{recipe}.yaml").stages["report"]
    assert isinstance(report, Evaluate)
    measured = MEASURED.get(recipe, {"expect": {}, "seeds": {}})
    assert report.expect == measured["expect"]
    for name, bound in report.expect.items():
        assert min(row[name] for row in measured["seeds"].values()) > float(bound.removeprefix(">="))


def test_no_two_recipes_start_at_the_same_minute() -> None:
    crons = [pipeline.schedule.cron for recipe in RECIPES if (pipeline := load(FOLDER / f"{recipe}.yaml")).schedule]
    assert len(set(crons)) == len(RECIPES)


def test_the_recipes_of_the_folder_are_what_is_deployed_and_the_base_is_not() -> None:
    assert [file.stem for file in scheduled(FOLDER)] == RECIPES


def test_a_folder_without_a_schedule_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("name: one\nstages:\n  raw: {kind: ingest, source: digits}\n")
    with pytest.raises(UserError, match="has no pipeline with a `schedule`"):
        scheduled(tmp_path)


def test_a_schedule_that_forces_a_stage_that_is_not_there_is_refused_at_its_place() -> None:
    with pytest.raises(InvalidPipeline, match=re.escape("no stage 'encodr'; did you mean 'encoder'?")):
        loads("name: x\nschedule: {cron: '0 3 * * *', force: [encodr]}\nstages:\n  encoder: {kind: ingest, source: digits}\n")


def test_a_deployment_may_be_told_which_stages_to_make_again() -> None:
    from jsonschema import validate

    validate({"file": "p.yaml", "workspace": ".", "force": ["encoder"]}, parameter_schema({}))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server of its own with a worker."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("prefect")
        for name, value in {"XDG_STATE_HOME": folder / "state", "PREFECT_HOME": folder / "home", "PREFECT_WORKER_QUERY_SECONDS": 2}.items():
            patch.setenv(name, str(value))
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        try:
            servers.up(worker=True)
            found = servers.address()
            assert found
            yield found
        finally:
            servers.down()


def prefect(url: str, *line: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PREFECT_API_URL": url, "DO_NOT_TRACK": "true"}
    return subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", *line], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_worker_runs_a_recipe_each_night_anew_and_fails_it_below_its_threshold(url: str, tmp_path: Path) -> None:
    """Two nights of one short epoch without a threshold, and one night of which more is expected than anything can reach."""
    short = ("params.epochs=0.2", "stages.report.protocols=[knn]", "stages.report.expect=null")
    name = deploy(FOLDER / "simclr.yaml", "local", overrides=short, workspace=tmp_path)
    for _ in range(2):
        night = prefect(url, "deployment", "run", name, "--watch")
        assert night.returncode == 0, night.stdout + night.stderr
    second, first = ledger.runs(tmp_path)
    assert {n: s["status"] for n, s in first["stages"].items()} == {"raw": "done", "encoder": "done", "report": "done"}
    assert {n: s["status"] for n, s in second["stages"].items()} == {"raw": "reused", "encoder": "done", "report": "done"}
    assert second["stages"]["report"]["metrics"] == first["stages"]["report"]["metrics"], "the same code and seed reach the same"
    name = deploy(FOLDER / "simclr.yaml", "local", overrides=(*short, 'stages.report.expect={knn: ">= 0.9999"}'), workspace=tmp_path)
    assert prefect(url, "deployment", "run", name, "--watch").returncode != 0
    failed = next(ledger.runs(tmp_path))["stages"]["report"]
    assert failed["status"] == "failed"
    assert "0.9999" in failed["error"]
