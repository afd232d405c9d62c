"""The numbers of reports in MLflow: the same names in every run, each with its interval and what it was judged by, on a real SQLite store."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow_runs import Reader, begin, plan_of, stage, workspace

from ssl_tasks.artifacts import draft, seal
from workflows.engine import mlflow_tracker

__all__ = ["workspace"]


def made_report(plan: Any, accuracy: float) -> Any:
    """A report of one model by two protocols, of which one has a main metric."""
    job = plan.job(plan.stages["report"])
    common = {"model": "students.small", "n": 360, "split": "abc"}
    rows = [
        {
            **common,
            "protocol": "knn",
            "version": "knn@1",
            "metric": "accuracy",
            "measure": "knn",
            "value": accuracy,
            "low": accuracy - 0.02,
            "high": accuracy + 0.02,
        },
        {**common, "protocol": "segmentation", "version": "segmentation@2", "metric": "miou", "measure": "segmentation/miou", "value": 0.5, "low": None},
    ]
    protocols = {"knn": {"kind": "knn", "k": 20, "temperature": 0.07}, "segmentation": {"kind": "segmentation", "classes": ["sky", "sea"]}}
    folder = draft(job)
    (folder / "results.json").write_text(json.dumps({"rows": rows, "protocols": protocols, "split": {"id": "abc"}}))
    return seal(job, folder, metrics={"students.small/knn": accuracy, "students.small/segmentation/miou": 0.5})


@pytest.fixture(scope="module")
def runs(workspace: Path) -> list[dict[str, Any]]:
    """Two executions, of which the second reuses the report of the first."""
    plan = plan_of(workspace)
    first = begin(plan, "judged")
    run = stage(first, plan, "report")
    report = made_report(plan, 0.9)
    run.end("done", {"": report})
    assert first.finish("done", {"report/students.small/knn": 0.9})
    second = begin(plan, "judged again")
    second.reused(plan.stages["report"], {"": report})
    assert second.finish("done", {"report/students.small/knn": 0.9})
    reader = Reader(mlflow_tracker.tracking_uri(workspace))
    return [reader.runs("judged"), reader.runs("judged again")]


@pytest.mark.parametrize("number", [0, 1], ids=["made", "reused"])
def test_every_number_is_named_by_model_protocol_and_metric_with_the_ends_of_its_interval(runs: list[dict[str, Any]], number: int) -> None:
    metrics = runs[number]["report"].data.metrics
    named = {name.removeprefix("students.small/"): value for name, value in metrics.items()}
    assert named == pytest.approx(
        {
            "knn": 0.9, "knn/accuracy": 0.9, "knn/accuracy/low": 0.88, "knn/accuracy/high": 0.92,
            "segmentation/miou": 0.5,
        }
    )  # fmt: skip


@pytest.mark.parametrize("number", [0, 1], ids=["made", "reused"])
def test_what_a_number_was_judged_by_stands_beside_it_on_the_run_and_on_its_parent(runs: list[dict[str, Any]], number: int) -> None:
    by = {
        "knn/version": "knn@1", "knn/k": "20", "knn/temperature": "0.07", "segmentation/version": "segmentation@2",
        "segmentation/classes": '["sky", "sea"]', "split/id": "abc",
    }  # fmt: skip
    own, parent = runs[number]["report"].data.params, runs[number][""].data.params
    assert {name: own.get(name) for name in by} == by
    assert {name: parent.get(f"report/{name}") for name in by} == by


def test_runs_of_a_pipeline_share_the_names_of_their_headline_numbers(runs: list[dict[str, Any]]) -> None:
    assert [set(run[""].data.metrics) for run in runs] == [{"report/students.small/knn"}] * 2
