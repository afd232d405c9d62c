"""A file of weights is part of the key of the stage that starts from it or embeds by it, and must be there before any work."""

from pathlib import Path

import pytest

from schemas.artifacts import sha256
from schemas.errors import UserError
from workflows.engine.reuse import Plan
from workflows.engine.run import plan_pipeline

PIPELINE = """\
name: tiny
stages:
  raw: {kind: ingest, source: {kind: scenes, count: 8, size: 16}}
  teacher: {kind: pretrain, dataset: raw, method: simclr, encoder: {name: resnet18, image_size: 16}, init_from: {file: weights/own.pth}}
  other: {kind: pretrain, dataset: raw, method: simclr, encoder: {name: resnet18, image_size: 16}}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(PIPELINE)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/own.pth").write_bytes(b"first")
    return tmp_path


def planned(workspace: Path) -> Plan:
    return plan_pipeline(workspace / "tiny.yaml", workspace)


def test_a_changed_file_changes_the_key_of_its_stage_alone(workspace: Path) -> None:
    before = planned(workspace).stages
    (workspace / "weights/own.pth").touch()
    assert planned(workspace).stages["teacher"].key == before["teacher"].key
    (workspace / "weights/own.pth").write_bytes(b"other")
    after = planned(workspace).stages
    assert [name for name in after if after[name].key != before[name].key] == ["teacher"]


def test_the_stage_is_told_which_bytes_were_planned_with(workspace: Path) -> None:
    plan = planned(workspace)
    assert plan.job(plan.stages["teacher"]).stamp == sha256(workspace / "weights/own.pth")
    assert plan.job(plan.stages["other"]).stamp == ""


def test_a_missing_file_is_an_error_before_any_work(workspace: Path) -> None:
    (workspace / "weights/own.pth").unlink()
    with pytest.raises(UserError, match=r"stages\.teacher\.init_from\.file: cannot read .*own\.pth \(No such file or directory\); the path is relative"):
        planned(workspace)
    assert not (workspace / ".sslflow").exists()


EMBEDS = """\
name: tiny
stages:
  raw: {kind: ingest, source: {kind: scenes, count: 8, size: 16}}
  clean:
    kind: curate
    dataset: raw
    steps:
      - integrity
      - {kind: embed, embedding: {kind: file, file: weights/own.pth, encoder: {name: resnet18, image_size: 16}}}
      - {kind: deduplicate, embedding: {kind: file, file: weights/other.pth, encoder: {name: resnet18, image_size: 16}}}
  plain: {kind: curate, dataset: raw, steps: [integrity]}
"""


def test_files_that_a_curation_embeds_by_are_part_of_its_key(workspace: Path) -> None:
    (workspace / "tiny.yaml").write_text(EMBEDS)
    (workspace / "weights/other.pth").write_bytes(b"second")
    plan = planned(workspace)
    both = [sha256(workspace / "weights" / name) for name in ("own.pth", "other.pth")]
    assert plan.job(plan.stages["clean"]).stamp == "+".join(both)
    assert plan.job(plan.stages["plain"]).stamp == ""
    (workspace / "weights/other.pth").write_bytes(b"third")
    after = planned(workspace).stages
    assert [name for name in after if after[name].key != plan.stages[name].key] == ["clean"]
    (workspace / "weights/own.pth").unlink()
    with pytest.raises(UserError, match=r"stages\.clean\.steps\.1\.embedding\.file: cannot read .*own\.pth \(No such file or directory\); the path is"):
        planned(workspace)
