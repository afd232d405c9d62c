"""Baselines: each student once more without its teacher, from the same first weights, on the same images, with the same budget."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_distill import DISTILLER, NARROW, VIEWS, job, teach, workspace
from tiny_training import CONV, DINO, SIMCLR, TRAIN, VIT, Recorder

from schemas import methods as configs
from schemas.artifacts import Checkpoint
from schemas.baselines import by_labels
from schemas.distillers import PSKD, CrossEntropy, Hinton
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.stages import Distill
from schemas.starts import StudentStart
from schemas.students import Alone
from schemas.students import Student as StudentConfig
from schemas.training import AdamW
from ssl_tasks.checkpoints import WEIGHTS, load_classifier, load_encoder
from ssl_tasks.distill import distill
from ssl_tasks.distill.alone import by_pretraining

__all__ = ["workspace"]
STILL = TRAIN.model_copy(update={"epochs": 1, "monitors": 1, "optimizer": AdamW(learning_rate=1e-30)})
"""A training that leaves its first weights as they are."""


def student(encoder: Encoder = NARROW, **own: Any) -> StudentConfig:
    return StudentConfig(**encoder.model_dump(), **own)


def stage_of(method: Any = DISTILLER, teacher: str | None = "teacher", baseline: Alone | None = Alone(), **students: StudentConfig) -> Distill:  # noqa: B008  # it is frozen
    train = TRAIN.model_copy(update={"epochs": 2})
    return Distill(dataset="data", teacher=teacher, method=method, students=students, views=VIEWS, train=train, baseline=baseline, seed=5)


def run(workspace: Path, stage: Distill, name: str, *outputs: str, tracker: Recorder | None = None) -> dict[str, Checkpoint]:
    inputs = {"data": "data"} | ({stage.teacher: stage.teacher} if stage.teacher else {})
    made = distill(job(workspace, name, stage, inputs, {output: f"{name}-{output}" for output in outputs}), tracker or Recorder())
    assert all(isinstance(artifact, Checkpoint) for artifact in made.values())
    return made  # type: ignore[return-value]  # just looked at


def test_a_student_of_class_scores_is_trained_alone_from_labels_in_the_same_pass(workspace: Path) -> None:
    """As if cross-entropy were its method: so from the same first weights, classifier's too, on the same views."""
    tracker = Recorder()
    made = run(workspace, stage_of(PSKD(), None, small=student()), "a", "small", "small_alone", tracker=tracker)
    plain = run(workspace, stage_of(CrossEntropy(), None, None, small=student()), "b", "small")["small"]
    assert made["small_alone"].files[WEIGHTS] == plain.files[WEIGHTS] != made["small"].files[WEIGHTS]
    assert made["small_alone"].classes == [f"class {i}" for i in range(4)]
    assert load_classifier(made["small_alone"]) is not None
    together = [{name.partition("/")[0] for name in values} for _, values in tracker.points]
    assert {"small", "small_alone"} <= set.union(*together)


def test_a_student_without_class_scores_is_pretrained_by_its_teachers_method_with_its_own_budget(workspace: Path) -> None:
    teacher = teach(workspace)
    own = student(CONV, train={"epochs": 3})
    config = by_pretraining(stage_of(small=own), "small", teacher)
    assert config.method == SIMCLR
    assert config.encoder == CONV
    assert (config.train.epochs, config.train.batch_size, config.seed, config.init_from) == (3, TRAIN.batch_size, 5, None)
    made = run(workspace, stage_of(small=own), "a", "small_alone")["small_alone"]
    assert (made.exported, made.classes, made.metrics["images_seen"]) == ("encoder", [], 3 * 64)


def test_it_starts_from_the_students_first_weights(workspace: Path) -> None:
    teach(workspace)
    stage = stage_of(small=student(train=STILL), other=student(CONV, train=STILL))
    made = run(workspace, stage, "a", "small", "small_alone", "other_alone")
    ours, theirs = (dict(load_encoder(made[name]).named_parameters()) for name in ("small", "small_alone"))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-20)
    again = dict(load_encoder(run(workspace, stage.model_copy(update={"seed": 6}), "b", "small_alone")["small_alone"]).named_parameters())
    assert any((value - again[name]).abs().max() > 0.01 for name, value in ours.items())


@pytest.mark.parametrize(
    ("written", "kept"),
    [(None, None), (StudentStart(layers="first"), None), (StudentStart(stage="earlier"), "earlier"), (StudentStart(file="own.pth"), "own.pth")],
    ids=["random", "layers", "stage", "file"],
)
def test_it_starts_where_the_student_does_unless_from_its_teachers_layers(workspace: Path, written: StudentStart | None, kept: str | None) -> None:
    pretrained = by_pretraining(stage_of(small=student(init_from=written)), "small", teach(workspace))
    labelled = by_labels(stage_of(Hinton(), small=student(init_from=written)), "small")
    assert labelled
    for start in (pretrained.init_from, labelled.init_from):
        assert (start and (start.stage or start.file)) == kept


def test_a_start_is_taken_by_the_baseline_that_is_pretrained(workspace: Path) -> None:
    teacher, tracker = teach(workspace), Recorder()
    made = run(workspace, stage_of(small=student(CONV, train=STILL, init_from="teacher")), "a", "small_alone", tracker=tracker)["small_alone"]
    ours, theirs = (dict(load_encoder(artifact).named_parameters()) for artifact in (made, teacher))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-20)
    assert any(note.startswith("small_alone starts from 'teacher'") for note in tracker.notes)


def test_the_config_may_name_what_baselines_learn_from(workspace: Path) -> None:
    named = Alone(method=configs.BYOL(hidden=16, output=8, views=SIMCLR.views))
    assert by_pretraining(stage_of(small=student(), baseline=named), "small", teach(workspace)).method == named.method
    assert by_pretraining(stage_of(small=student(), baseline=named), "small", None).method == named.method
    assert by_labels(stage_of(Hinton(), baseline=named, small=student()), "small") is None
    assert by_labels(stage_of(Hinton(), small=student()), "small") is not None
    assert by_labels(stage_of(small=student()), "small") is None


def test_only_baselines_that_are_asked_for_are_trained(workspace: Path) -> None:
    teach(workspace)
    tracker = Recorder()
    stage = stage_of(small=student(), wide=student(CONV))
    assert list(run(workspace, stage, "a", "wide_alone", tracker=tracker)) == ["wide_alone"]
    assert {name.partition("/")[0] for _, values in tracker.points for name in values} == {"wide_alone"}
    assert list(run(workspace, stage, "b", "small")) == ["small"]


MASKS = configs.IBOT(prototypes=16, hidden=16, bottleneck=8, views=SIMCLR.views)
LOCAL = DINO.model_copy(update={"views": DINO.views.model_copy(update={"local_count": 2, "local_size": 6})})


@pytest.mark.parametrize(
    ("method", "encoder", "message"),
    [
        (
            MASKS,
            NARROW,
            "baseline of 'small': ibot masks patches, and 'resnetv2_18' has none: take a ViT, such as vit_small_patch16_224; or name",
        ),
        (LOCAL, VIT, "baseline of 'small': a local crop of 6 px is not a multiple of patch size 4: set method.views.local_size, such as to 8; or name"),
    ],
    ids=["masks patches", "local crops"],
)
def test_a_teachers_method_that_does_not_fit_the_student_is_refused_in_a_line_before_any_training(
    workspace: Path, method: configs.Method, encoder: Encoder, message: str
) -> None:
    teacher = teach(workspace)
    other = teacher.model_copy(update={"config": {**teacher.config, "method": method.model_dump(mode="json")}})
    (teacher.folder / "artifact.json").write_text(other.model_dump_json(exclude={"folder"}))
    tracker = Recorder()
    with pytest.raises(UserError) as caught:
        run(workspace, stage_of(small=student(encoder)), "a", "small", "small_alone", tracker=tracker)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert tracker.points == []
    assert list(run(workspace, stage_of(small=student(encoder)), "b", "small")) == ["small"]


def test_a_teacher_that_was_not_pretrained_has_no_method_to_take(workspace: Path) -> None:
    teacher = teach(workspace)
    for other in (None, teacher.model_copy(update={"kind": "distill"})):
        with pytest.raises(UserError, match=r"baseline: the teacher of 'small' was not made by a pretrain stage: name another method, \{kind: alone"):
            by_pretraining(stage_of(small=student()), "small", other)
