"""What is reused, what runs, and the reason that is given."""

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import UserError
from schemas.pipeline import Pipeline
from ssl_tasks.artifacts import draft, seal
from workflows.engine.reuse import Plan, make_plan

STAGES: dict[str, Any] = {
    "raw": {"kind": "ingest", "source": "digits"},
    "clean": {"kind": "curate", "dataset": "raw", "steps": ["integrity"]},
    "teacher": {"kind": "pretrain", "dataset": "clean", "method": "simclr", "encoder": {"name": "resnet18"}},
    "students": {
        "kind": "distill",
        "dataset": "clean",
        "teacher": "teacher",
        "method": "feature",
        "students": {"small": {"name": "resnet10t"}, "large": {"name": "resnet34"}},
    },
    "report": {"kind": "evaluate", "dataset": "raw", "models": ["teacher", "students.small", "students.large"], "protocols": ["knn"]},
}
FIELDS: dict[str, dict[str, Any]] = {
    "Dataset": {"rows": 1, "kept": 1},
    "Checkpoint": {"encoder": {"name": "resnet18"}, "mean": [0.5], "std": [0.5], "dim": 8, "exported": "encoder"},
    "Report": {},
}


def edited(**changes: Any) -> dict[str, Any]:
    """STAGES with some keys of some stages changed: `teacher__seed=3`."""
    stages = {name: dict(stage) for name, stage in STAGES.items()}
    for path, value in changes.items():
        name, _, key = path.partition("__")
        stages[name][key] = value
    return stages


def planned(workspace: Path, stages: dict[str, Any] = STAGES, **options: Any) -> Plan:
    return make_plan(Pipeline.model_validate({"name": "digits", "stages": stages}), workspace, {"raw": "d41d8"}, **options)


def make_all(plan: Plan) -> dict[str, dict[str, str]]:
    """Seal an artifact for every output of the plan, as if all had run; the keys by stage."""
    for stage in plan.stages.values():
        job = plan.job(stage)
        for output in job.outputs:
            folder = draft(job, output)
            (folder / "payload.bin").write_bytes(b"payload")
            seal(job, folder, output, **FIELDS[stage.stage.makes])
    return {name: stage.outputs for name, stage in plan.stages.items()}


def status(plan: Plan) -> dict[str, str]:
    return {name: stage.status for name, stage in plan.stages.items()}


def test_on_a_fresh_tree_the_first_stage_runs_and_the_others_wait(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert status(plan) == {"raw": "run", "clean": "waits", "teacher": "waits", "students": "waits", "report": "waits"}
    assert {s.reason for s in plan.stages.values()} == {"not made yet"}


def test_nothing_is_left_to_do_after_a_run(tmp_path: Path) -> None:
    make_all(planned(tmp_path))
    assert planned(tmp_path).todo == []


def test_a_changed_hyper_parameter_runs_its_stage_and_what_depends_on_it_and_says_so(tmp_path: Path) -> None:
    before = make_all(planned(tmp_path))
    plan = planned(tmp_path, edited(teacher__train={"epochs": 5.0}), previous=before)
    assert status(plan) == {"raw": "reused", "clean": "reused", "teacher": "run", "students": "waits", "report": "waits"}
    assert plan.stages["teacher"].reason == "train.epochs 100.0 -> 5.0"
    assert plan.stages["students"].reason == "input teacher changed"


def test_a_changed_protocol_runs_the_report_only(tmp_path: Path) -> None:
    before = make_all(planned(tmp_path))
    plan = planned(tmp_path, edited(report__protocols=[{"kind": "knn", "k": 10}]), previous=before)
    assert [s.name for s in plan.todo] == ["report"]
    assert plan.stages["report"].reason == "protocols.0.k 20 -> 10"


def test_another_data_version_runs_everything(tmp_path: Path) -> None:
    make_all(planned(tmp_path))
    plan = make_plan(Pipeline.model_validate({"name": "digits", "stages": STAGES}), tmp_path, {"raw": "0ther"})
    assert len(plan.todo) == len(STAGES)


def test_resources_and_key_order_change_nothing(tmp_path: Path) -> None:
    make_all(planned(tmp_path))
    stages = edited(teacher__resources={"retries": 7})
    stages["teacher"] = dict(reversed(stages["teacher"].items()))
    assert planned(tmp_path, dict(reversed(stages.items()))).todo == []


def test_renaming_a_stage_trains_nothing_anew(tmp_path: Path) -> None:
    make_all(planned(tmp_path))
    stages = {("big" if n == "teacher" else n): s for n, s in edited(students__teacher="big", report__models=["big", "students.small"]).items()}
    assert [s.name for s in planned(tmp_path, stages).todo] == ["report"]


def test_a_new_student_is_trained_and_the_others_are_kept(tmp_path: Path) -> None:
    before = make_all(planned(tmp_path))
    students = {**STAGES["students"]["students"], "wide": {"name": "resnet50"}}
    plan = planned(tmp_path, edited(students__students=students), previous=before)
    assert plan.stages["students"].missing == ("wide",)
    assert plan.stages["students"].reason == "wide is new"
    assert plan.stages["report"].status == "reused"


def test_a_cut_short_artifact_is_made_again(tmp_path: Path) -> None:
    before = make_all(planned(tmp_path))
    key = before["teacher"][""]
    (tmp_path / ".sslflow/artifacts" / key / "payload.bin").write_bytes(b"pay")
    plan = planned(tmp_path, previous=before)
    assert [s.name for s in plan.todo] == ["teacher"]
    assert plan.stages["teacher"].reason == "damaged: payload.bin missing or cut short"


def test_a_folder_without_artifact_json_is_no_artifact(tmp_path: Path) -> None:
    before = make_all(planned(tmp_path))
    (tmp_path / ".sslflow/artifacts" / before["report"][""] / "artifact.json").unlink()
    assert [s.name for s in planned(tmp_path, previous=before).todo] == ["report"]


def test_until_leaves_out_what_comes_after(tmp_path: Path) -> None:
    assert status(planned(tmp_path, until="teacher")) == {"raw": "run", "clean": "waits", "teacher": "waits", "students": "skipped", "report": "skipped"}


def test_force_runs_a_made_stage_and_its_dependents_again(tmp_path: Path) -> None:
    make_all(planned(tmp_path))
    plan = planned(tmp_path, force=["teacher"])
    assert status(plan) == {"raw": "reused", "clean": "reused", "teacher": "run", "students": "waits", "report": "waits"}
    assert plan.stages["teacher"].reason == "asked for"


def test_from_needs_what_it_takes_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot start from 'teacher': raw, clean would have to run first"):
        planned(tmp_path, start="teacher")


def test_an_unknown_stage_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no stage 'techer'.*stages: raw, clean, teacher"):
        planned(tmp_path, until="techer")


def test_the_data_version_reaches_every_stage_behind_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, data_version="d41d8")
    assert set(plan.data_versions.values()) == {"d41d8"}
