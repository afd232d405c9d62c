"""What the terminal says of a chain of artifacts and of a report's numbers."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from schemas.job import Job
from schemas.stages import Distill
from ssl_tasks.artifacts import draft, seal
from workflows.engine.display import result_table
from workflows.engine.explain import print_artifact


def test_a_student_whose_batches_are_not_the_defaults_size_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = {"batch_size": 8}
    stage = Distill.model_validate({"dataset": "raw", "teacher": "t", "method": "feature", "students": {"small": {"name": "resnet10t"}}, "train": train})
    job = Job(name="students", pipeline="p", stage=stage, key="k", inputs={}, outputs={"small": "key"}, workspace=tmp_path)
    fields = {"encoder": {"name": "resnet10t"}, "mean": [0.5], "std": [0.5], "dim": 512, "exported": "student encoder"}
    print_artifact(tmp_path, seal(job, draft(job, "small"), "small", **fields))
    shown = capsys.readouterr().out
    assert "students.small.train.batch_size=8" in shown
    assert "students.small.method.kind=feature" in shown


def test_a_table_has_a_column_for_each_protocol_and_leaves_its_finer_numbers_and_costs_to_the_report() -> None:
    def row(model: str, measure: str, metric: str, value: float) -> dict[str, object]:
        return {"model": model, "protocol": measure.partition("/")[0], "measure": measure, "metric": metric, "value": value, "parameters": 10}

    rows = [
        row("t", "knn/top5", "top5", 0.99),
        row("t", "knn", "accuracy", 0.9),
        row("s", "fidelity/agreement", "agreement", 0.75),
        row("s", "fidelity/kl", "kl", 0.5),
        row("s", "cost/flops", "flops", 7e9),
    ]
    out = io.StringIO()
    Console(file=out, width=200).print(result_table(rows))
    head, teacher, student = (line.split() for line in out.getvalue().splitlines()[:3])
    assert head == ["model", "parameters", "knn", "fidelity/agreement"]
    assert teacher == ["t", "10", "0.900"]
    assert student == ["s", "10", "0.750"]


def test_a_report_from_before_protocols_gave_several_numbers_is_shown_too() -> None:
    out = io.StringIO()
    Console(file=out, width=200).print(result_table([{"model": "t", "protocol": "knn", "metric": "accuracy", "value": 0.9}]))
    assert out.getvalue().split() == ["model", "parameters", "knn", "t", "0.900"]
