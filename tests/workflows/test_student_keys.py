"""What of a distillation is part of which student's key: its own start, file and average; never another's, nor that a baseline was asked for."""

from pathlib import Path

import pytest

from schemas.artifacts import sha256
from schemas.errors import InvalidPipeline, UserError
from schemas.load import loads
from workflows.engine.reuse import Plan, make_plan
from workflows.engine.run import plan_pipeline

PIPELINE = """\
name: family
stages:
  raw: {kind: ingest, source: {kind: scenes, count: 8, size: 16}}
  teacher: {kind: pretrain, dataset: raw, method: simclr, encoder: {name: resnet18, image_size: 16}}
  earlier: {kind: pretrain, dataset: raw, method: byol, encoder: {name: resnet18, image_size: 16}}
  students:
    kind: distill
    dataset: raw
    teacher: teacher
    method: feature
    students:
      a: {name: resnet10t, image_size: 16}
      b: {name: resnet14t, image_size: 16}
"""
A = "a: {name: resnet10t, image_size: 16"
B = "b: {name: resnet14t, image_size: 16"


def plan(text: str = PIPELINE) -> Plan:
    return make_plan(loads(text), Path("nowhere"), {"raw": "raw 1"})


def keys(text: str = PIPELINE) -> dict[str, str]:
    return plan(text).stages["students"].outputs


def changed(text: str, before: str = PIPELINE) -> list[str]:
    """Which students are made anew."""
    was = keys(before)
    return [output for output, key in keys(text).items() if output in was and was[output] != key]


@pytest.mark.parametrize(
    "start",
    ["init_from: earlier", "init_from: {layers: every_second}", "init_from: {file: own.pth}", "ema: 0.99", "method: rkd", "train: {epochs: 3}"],
)
def test_what_is_a_students_own_changes_its_key_alone(start: str) -> None:
    assert changed(PIPELINE.replace(A, f"{A}, {start}")) == ["a"]


def test_a_start_is_known_by_the_key_of_what_it_starts_from() -> None:
    starts = PIPELINE.replace(A, f"{A}, init_from: earlier")
    assert plan(starts).stages["students"].inputs["earlier"] == plan(starts).stages["earlier"].key
    assert changed(starts.replace("method: byol", "method: simsiam"), starts) == ["a"]
    assert changed(starts.replace("  earlier:", "  before:").replace("init_from: earlier", "init_from: before"), starts) == []
    assert list(plan(starts).stages).index("students") > list(plan(starts).stages).index("earlier")


def test_another_teacher_changes_every_key() -> None:
    assert changed(PIPELINE.replace("teacher: teacher", "teacher: earlier")) == ["a", "b"]


def test_asking_for_baselines_makes_no_student_anew() -> None:
    asked = PIPELINE.replace("    method: feature\n", "    method: feature\n    baseline: alone\n")
    assert list(keys(asked)) == ["a", "b", "a_alone", "b_alone"]
    assert changed(asked) == []
    other = asked.replace("baseline: alone", "baseline: {kind: alone, method: byol}")
    assert changed(other, asked) == ["a_alone", "b_alone"]


def test_a_further_student_makes_no_other_one_anew() -> None:
    assert changed(PIPELINE.replace("      b:", "      c: {name: resnet18, image_size: 16}\n      b:")) == []


def test_a_start_that_does_not_exist_is_told_where_it_is_written() -> None:
    with pytest.raises(InvalidPipeline, match=r"stages\.students\.students\.a\.init_from: no stage 'erlier'; did you mean 'earlier'\?"):
        loads(PIPELINE.replace(A, f"{A}, init_from: erlier"))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    text = PIPELINE.replace(A, f"{A}, init_from: {{file: one.pth}}").replace(B, f"{B}, init_from: {{file: two.pth}}")
    (tmp_path / "family.yaml").write_text(text.replace("    method: feature\n", "    method: feature\n    baseline: alone\n"))
    for name in ("one.pth", "two.pth"):
        (tmp_path / name).write_text(name)
    return tmp_path


def planned(workspace: Path) -> Plan:
    return plan_pipeline(workspace / "family.yaml", workspace)


def test_a_changed_file_changes_the_keys_of_the_student_that_starts_from_it(workspace: Path) -> None:
    before = planned(workspace).stages["students"]
    (workspace / "two.pth").write_text("other")
    after = planned(workspace).stages["students"]
    assert [o for o in after.outputs if after.outputs[o] != before.outputs[o]] == ["b", "b_alone"]
    plan = planned(workspace)
    assert plan.job(plan.stages["students"]).stamp == "+".join(sha256(workspace / name) for name in ("one.pth", "two.pth"))


def test_a_missing_file_is_an_error_before_any_work(workspace: Path) -> None:
    (workspace / "two.pth").unlink()
    with pytest.raises(UserError, match=r"stages\.students\.students\.b\.init_from\.file: cannot read .*two\.pth"):
        planned(workspace)


PROTOTYPES = PIPELINE.replace("method: feature\n", "method: {kind: dinov2, patch_weight: 0}\n    views: {preset: dinov2}\n").replace(
    "teacher: {kind: pretrain, dataset: raw, method: simclr,", "teacher: {kind: pretrain, dataset: raw, method: dino, keep_training_state: true,"
)


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("method: dino,", "method: byol,", "'teacher' is pretrained by byol: dinov2 learns from the prototypes of a teacher that is pretrained by dino, ibot,"),
        (
            ", keep_training_state: true",
            "",
            "'teacher' does not keep its training state, which holds its prototypes: set stages.teacher.keep_",
        ),
        ("{kind: dinov2, patch_weight: 0}", "dinov2", "'teacher' is pretrained by dino, which looks at no patches: set patch_weight of dinov2 to 0"),
    ],
)
def test_a_teacher_whose_prototypes_cannot_be_learned_from_is_refused_at_load(good: str, bad: str, message: str) -> None:
    loads(PROTOTYPES)
    assert PROTOTYPES.count(good) == 1
    with pytest.raises(InvalidPipeline) as caught:
        loads(PROTOTYPES.replace(good, bad))
    assert f"stages.students.teacher: {message}" in str(caught.value)


def test_a_teacher_that_is_no_pretraining_is_refused_where_its_prototypes_are_wanted() -> None:
    whitened = PROTOTYPES.replace("  students:\n    kind", "  white: {kind: whiten, dataset: raw, checkpoint: teacher}\n  students:\n    kind")
    with pytest.raises(InvalidPipeline, match=r"stages\.students\.teacher: 'white' is no pretrain stage: dinov2 learns from the prototypes"):
        loads(whitened.replace("    teacher: teacher", "    teacher: white"))


def peers(first: str, second: str) -> str:
    return PIPELINE.replace("    teacher: teacher\n    method: feature\n", "    method: dml\n").replace(A, f"a: {first}").replace(B, f"b: {second}")


def test_peers_of_the_same_first_weights_are_refused() -> None:
    same = "{name: resnet10t, image_size: 16, init_from: earlier"
    with pytest.raises(InvalidPipeline, match=r"students\.b\.init_from: 'b' and 'a' start from the same weights: peers that agree teach"):
        loads(peers(same, same + ", train: {epochs: 3}"))
    for other in (
        "{name: resnet10t, image_size: 16",
        "{name: resnet10t, image_size: 16, init_from: teacher",
        "{name: resnet14t, image_size: 16, init_from: earlier",
    ):
        loads(peers(same, other))


def test_the_layers_of_a_teacher_that_is_not_there_are_refused() -> None:
    with pytest.raises(InvalidPipeline, match=r"missing 'teacher', whose layers 'a' starts from"):
        loads(peers("{name: resnet10t, image_size: 16, init_from: {layers: first}", "{name: resnet14t, image_size: 16"))


def test_a_baseline_that_cannot_be_is_refused_at_load() -> None:
    """Not when the teacher is trained already."""
    asked = PIPELINE.replace("    method: feature\n", "    method: feature\n    baseline: alone\n")
    masks = asked.replace("method: simclr, encoder: {name: resnet18, image_size: 16}", "method: mae, encoder: {name: vit_tiny_patch16_224}")
    with pytest.raises(InvalidPipeline, match=r"students\.baseline: baseline of 'a': mae masks patches, and 'resnet10t' has none: .*; or name another"):
        loads(masks)
    loads(masks.replace("baseline: alone", "baseline: {kind: alone, method: simclr}"))
    loads(masks.replace("    baseline: alone\n", ""))
    whitened = asked.replace("  students:\n    kind", "  white: {kind: whiten, dataset: raw, checkpoint: teacher}\n  students:\n    kind")
    with pytest.raises(InvalidPipeline, match=r"students\.baseline: 'white', the teacher of 'a', is no pretrain stage: name another method"):
        loads(whitened.replace("    teacher: teacher", "    teacher: white"))
    loads(whitened.replace("    teacher: teacher", "    teacher: white").replace("method: feature", "method: hinton"))
