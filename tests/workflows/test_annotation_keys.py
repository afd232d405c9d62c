"""What annotations say is part of the key of the stage that judges by them, and must be there before any work."""

import json
from pathlib import Path

import pytest

from schemas.errors import UserError
from workflows.engine.reuse import Plan
from workflows.engine.run import plan_pipeline

PIPELINE = """\
name: tiny
stages:
  raw: {kind: ingest, source: {kind: scenes, count: 8, size: 16}}
  teacher: {kind: pretrain, dataset: raw, method: simclr, encoder: {name: resnet18, image_size: 16}}
  report:
    kind: evaluate
    dataset: raw
    models: [teacher]
    protocols:
      - rank
      - {kind: segmentation, annotations: {kind: masks, path: known/masks}}
      - {kind: detection, annotations: {kind: coco, file: known/boxes.json}}
      - {kind: propagation, annotations: {kind: videos, frames: known/frames, masks: known/tracks}}
  worst: {kind: evaluate, dataset: raw, models: [teacher], protocols: [{kind: groups, file: known/groups.csv}]}
  plain: {kind: evaluate, dataset: raw, models: [teacher], protocols: [rank, {kind: depth, annotations: drawn}]}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(PIPELINE)
    for file in ("masks/a/0.png", "frames/one/0.jpg", "tracks/one/0.png"):
        (tmp_path / "known" / file).parent.mkdir(parents=True)
        (tmp_path / "known" / file).write_bytes(b"first")
    (tmp_path / "known/boxes.json").write_text("{}")
    (tmp_path / "known/groups.csv").write_text("uri,group\n")
    return tmp_path


def planned(workspace: Path) -> Plan:
    return plan_pipeline(workspace / "tiny.yaml", workspace)


def changed(before: Plan, after: Plan) -> list[str]:
    return [name for name in after.stages if after.stages[name].key != before.stages[name].key]


def test_a_changed_file_changes_the_key_of_its_stage_alone(workspace: Path) -> None:
    before = planned(workspace)
    (workspace / "known/boxes.json").touch()
    assert changed(before, planned(workspace)) == []
    (workspace / "known/boxes.json").write_text(json.dumps({"images": []}))
    assert changed(before, planned(workspace)) == ["report"]


@pytest.mark.parametrize("file", ["masks/a/0.png", "frames/one/0.jpg", "tracks/one/0.png", "masks/a/1.png"])
def test_a_file_that_changes_in_a_folder_or_comes_to_it_changes_the_key(workspace: Path, file: str) -> None:
    before = planned(workspace)
    (workspace / "known" / file).write_bytes(b"longer")
    assert changed(before, planned(workspace)) == ["report"]


def test_a_changed_file_of_groups_changes_the_key_of_its_stage_alone(workspace: Path) -> None:
    before = planned(workspace)
    (workspace / "known/groups.csv").write_text("uri,group\na.png,beach\n")
    assert changed(before, planned(workspace)) == ["worst"]
    (workspace / "known/groups.csv").unlink()
    with pytest.raises(UserError, match=r"^stages\.worst\.protocols: groups\.file: cannot read .*groups\.csv \(No such file"):
        planned(workspace)


def test_a_stage_that_judges_by_what_is_drawn_reads_no_files(workspace: Path) -> None:
    plan = planned(workspace)
    assert plan.job(plan.stages["plain"]).stamp == ""
    assert plan.job(plan.stages["report"]).stamp.count("+") == 3


def test_annotations_that_are_not_there_are_an_error_before_any_work(workspace: Path) -> None:
    (workspace / "known/masks").rename(workspace / "known/others")
    with pytest.raises(UserError, match=r"^stages\.report\.protocols: segmentation\.annotations\.path: cannot read .*known/masks \(No such file") as told:
        planned(workspace)
    assert "\n" not in str(told.value)
    assert not (workspace / ".sslflow").exists()
