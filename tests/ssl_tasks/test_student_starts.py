"""What a student starts from besides random weights, what it hands over in its place, and what is said of its size first."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_methods import BATCH, CASES
from test_distill import DISTILLER, VIEWS, job, teach, workspace
from test_every_method import adam, step, views_of
from tiny_training import CONV, TRAIN, VIT, Recorder

from schemas.artifacts import Checkpoint
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.stages import Distill
from schemas.starts import StudentStart
from schemas.students import Student as StudentConfig
from ssl_tasks.checkpoints import load_encoder
from ssl_tasks.distill import distill, starts
from ssl_tasks.distill.fit import depth, doubts
from ssl_tasks.distill.starts import blocks_by, copy_layers
from ssl_tasks.distill.student import Student
from ssl_tasks.nn.encoder import TimmEncoder

__all__ = ["workspace"]
KEY = "students.small.init_from.layers"


def vit(depth: int, **changes: Any) -> TimmEncoder:
    torch.manual_seed(depth)
    return TimmEncoder(VIT.model_copy(update={"depth": depth, **changes}))


def conv(**options: Any) -> TimmEncoder:
    torch.manual_seed(len(str(options)))
    return TimmEncoder(CONV.model_copy(update={"options": {**CONV.options, "zero_init_last": False, **options}}))


@pytest.mark.parametrize(
    ("rule", "teacher", "student", "chosen"),
    [
        ("every_second", 12, 6, [0, 2, 4, 6, 8, 10]),
        ("every_second", 12, 4, [0, 2, 4, 6]),
        ("every_second", 5, 3, [0, 2, 4]),
        ("every_second", 12, 7, [0, 2, 4, 6, 8, 10]),
        ("evenly", 12, 4, [0, 4, 7, 11]),
        ("evenly", 12, 12, list(range(12))),
        ("evenly", 12, 1, [0]),
        ("first", 12, 3, [0, 1, 2]),
    ],
)
def test_a_rule_names_blocks_of_the_teacher(rule: str, teacher: int, student: int, chosen: list[int]) -> None:
    assert blocks_by(rule, teacher, student) == chosen


def test_every_second_block_of_a_vit_and_what_is_around_them_become_the_students() -> None:
    student, teacher = vit(2), vit(4)
    note = copy_layers(student, teacher, "every_second", KEY)
    own, theirs = student.backbone.state_dict(), teacher.backbone.state_dict()
    for name, value in own.items():
        assert torch.equal(value, theirs[name.replace("blocks.1.", "blocks.2.")]), name
    assert note == f"starts from the teacher's blocks 0, 2 and what is around them: {len(own)} of its {len(own)} tensors"


def test_positions_of_another_image_size_are_resampled() -> None:
    student, teacher = vit(1, image_size=16), vit(2)
    copy_layers(student, teacher, "first", KEY)
    positions: Any = student.backbone.get_parameter("pos_embed")
    assert positions.shape == (1, 17, 16)
    assert torch.equal(positions[:, 0], teacher.backbone.get_parameter("pos_embed")[:, 0])
    assert torch.equal(student.backbone.get_parameter("cls_token"), teacher.backbone.get_parameter("cls_token"))


def test_what_only_the_student_has_stays_as_it_is() -> None:
    student, teacher = vit(1, options={"reg_tokens": 2}), vit(2)
    before = student.backbone.get_parameter("reg_token").clone()
    note = copy_layers(student, teacher, "first", KEY)
    assert torch.equal(student.backbone.get_parameter("reg_token"), before)
    assert torch.equal(student.backbone.get_parameter("blocks.0.mlp.fc1.weight"), teacher.backbone.get_parameter("blocks.0.mlp.fc1.weight"))
    total = len(student.backbone.state_dict())
    assert note.endswith(f"{total - 2} of its {total} tensors, without reg_token, pos_embed")


def test_a_convnet_takes_what_has_the_same_name_and_shape() -> None:
    teacher, student = conv(layers=[2, 1]), conv(layers=[1, 1], channels=[4, 12])
    fresh = {name: value.clone() for name, value in student.backbone.state_dict().items()}
    note = copy_layers(student, teacher, "every_second", KEY)
    own, theirs = student.backbone.state_dict(), teacher.backbone.state_dict()
    same = [name for name in own if name in theirs and own[name].shape == theirs[name].shape]
    assert all(torch.equal(own[name], theirs[name]) for name in same)
    assert all(torch.equal(own[name], fresh[name]) for name in own if name not in same)
    assert "stem.conv.weight" in same or any(name.startswith("stages.0") for name in same)
    assert note.startswith(f"starts from the teacher's layers of the same name and shape: {len(same)} of its {len(own)} tensors, without stages.1.")


@pytest.mark.parametrize(
    ("student", "teacher", "rule", "message"),
    [
        (vit(1, width=8), vit(2), "first", "it is a ViT of width 16, depth 2, patch 4, 1 channel, 2 heads, and the student is a ViT of width 8, depth 1"),
        (vit(1, heads=4), vit(2), "first", "2 heads, and the student is a ViT of width 16, depth 1, patch 4, 1 channel, 4 heads; make the widths the same"),
        (vit(1), conv(), "first", "no layer of the teacher 'resnetv2_18' fits 'vit_tiny_patch16_224'"),
        (conv(), vit(1), "first", "no layer of the teacher 'vit_tiny_patch16_224' fits 'resnetv2_18'"),
        (conv(channels=[12, 20], stem_chs=12), conv(), "first", "whose first layer has width 8, kernel 3, 1 channel, and the student is a network of"),
        (vit(3), vit(4), "every_second", "every_second gives 2 of the teacher's 4 blocks, and the student has 3: take evenly or first"),
        (vit(4), vit(3), "evenly", "evenly gives 3 of the teacher's 3 blocks, and the student has 4: make it less deep"),
    ],
    ids=["width", "heads", "convnet teacher", "vit teacher", "channels", "too few by the rule", "too few"],
)
def test_layers_that_do_not_fit_are_refused_with_the_reason(student: TimmEncoder, teacher: TimmEncoder, rule: str, message: str) -> None:
    before = {name: value.clone() for name, value in student.backbone.state_dict().items()}
    with pytest.raises(UserError) as caught:
        copy_layers(student, teacher, rule, KEY)
    assert str(caught.value).startswith(KEY)
    assert message in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in student.backbone.state_dict().items())


def start(workspace: Path, written: Any, encoder: Encoder = CONV, stamp: str = "") -> tuple[TimmEncoder, str]:
    """A student's encoder and what is said of its start, beside the artifacts `teacher` and `data`."""
    config = StudentConfig(**encoder.model_dump(), init_from=written)
    stage = Distill(dataset="data", teacher="teacher", method=DISTILLER, students={"small": config}, views=VIEWS, train=TRAIN)
    torch.manual_seed(1)
    made = TimmEncoder(encoder)
    work = job(workspace, "s", stage, {"data": "data", "teacher": "teacher"}, {"small": "small"}).model_copy(update={"stamp": stamp})
    return made, starts.begin(made, config, "small", work)


def test_a_student_starts_from_a_stage_a_file_or_its_teachers_layers(workspace: Path) -> None:
    teacher = load_encoder(teach(workspace))
    save_file(teacher.backbone.state_dict(), workspace / "own.safetensors")
    for written, told in (
        (StudentStart(stage="teacher"), "small starts from 'teacher': "),
        (StudentStart(file="own.safetensors"), "small starts from own.safetensors: "),
        (StudentStart(layers="first"), "small starts from the teacher's layers of the same name and shape: "),
    ):
        made, note = start(workspace, written)
        assert note.startswith(told)
        assert all(torch.equal(value, teacher.backbone.state_dict()[name]) for name, value in made.backbone.state_dict().items())
    assert start(workspace, None)[1] == ""


def test_a_file_that_changed_since_it_was_planned_with_is_refused(workspace: Path) -> None:
    save_file(load_encoder(teach(workspace)).backbone.state_dict(), workspace / "own.safetensors")
    with pytest.raises(UserError, match=r"students\.small\.init_from\.file: .*own\.safetensors has changed since the run was planned"):
        start(workspace, StudentStart(file="own.safetensors"), stamp="0" * 64 + "+" + "1" * 64)
    with pytest.raises(UserError, match=r"students\.small\.init_from\.file: .*none\.pth does not exist"):
        start(workspace, StudentStart(file="none.pth"))


def distilled(workspace: Path, run: str, tracker: Recorder, teacher: Checkpoint, **students: StudentConfig) -> dict[str, Any]:
    stage = Distill(dataset="data", teacher=teacher.stage, method=DISTILLER, students=students, views=VIEWS, train=TRAIN, seed=5)
    return distill(job(workspace, run, stage, {"data": "data", "teacher": "teacher"}, {name: f"{run}-{name}" for name in students}), tracker)


def test_a_start_is_noted_and_is_where_the_first_step_begins(workspace: Path) -> None:
    teacher, tracker = teach(workspace), Recorder()
    same, other = StudentConfig(**CONV.model_dump(), init_from="teacher"), StudentConfig(**CONV.model_dump())
    distilled(workspace, "s", tracker, teacher, same=same, other=other)
    assert any(note.startswith("same starts from 'teacher'") for note in tracker.notes)
    first = {name: next(values[f"{name}/train/loss"] for _, values in tracker.points if f"{name}/train/loss" in values) for name in ("same", "other")}
    assert first["same"] != first["other"]


def average(momentum: float | None) -> Student:
    case = CASES["distill-feature-convnet"]
    made = case.make()
    assert isinstance(made, Student)
    return Student(made.config.model_copy(update={"ema": momentum}), made._views, made.network, made.each())


def test_the_average_follows_the_student_by_its_momentum_and_is_what_is_handed_over() -> None:
    made = average(0.75)
    begun = {name: value.detach().clone() for name, value in made.network.named_parameters()}
    step(made, adam(made), views_of(made))
    assert made.average
    assert made.exported() is made.average.network.encoder
    assert made.exported() is not made.network.encoder
    for name, value in made.average.network.named_parameters():
        torch.testing.assert_close(value, 0.75 * begun[name] + 0.25 * made.network.get_parameter(name))
        assert not value.requires_grad
    assert any(not torch.equal(value, begun[name]) for name, value in made.average.network.named_parameters())
    without = average(None)
    assert without.exported() is without.network.encoder


def test_a_resume_keeps_the_average() -> None:
    first, second = average(0.5), average(0.5)
    step(first, adam(first), views_of(first))
    second.load_state_dict(first.state_dict())
    images = torch.rand(BATCH, 1, 16, 16)
    assert torch.equal(second.eval().exported()(images), first.eval().exported()(images))
    assert not torch.equal(first.exported()(images), first.network.encoder(images))


def test_a_student_cut_short_ends_with_the_same_average(workspace: Path) -> None:
    teacher = teach(workspace)
    student = StudentConfig(**CONV.model_dump(), ema=0.9)
    whole = distilled(workspace, "whole", Recorder(), teacher, small=student)["small"]

    class Interrupting(Recorder):
        def metrics(self, values: Any, step: int) -> None:
            if step > 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distilled(workspace, "cut", Interrupting(), teacher, small=student)
    tracker = Recorder()
    assert distilled(workspace, "cut", tracker, teacher, small=student)["small"].files == whole.files
    assert any("goes on from step" in note for note in tracker.notes)
    plain = distilled(workspace, "plain", Recorder(), teacher, small=StudentConfig(**CONV.model_dump()))["small"]
    assert plain.files["model.safetensors"] != whole.files["model.safetensors"]


def student_of(encoder: TimmEncoder, method: str = "feature", **options: Any) -> Student:
    made = CASES[f"distill-{method}-vit"].make()
    assert isinstance(made, Student)
    made.network.encoder = encoder
    encoder.config = encoder.config.model_copy(update={"options": {**encoder.config.options, **options}})
    return made


def test_depth_counts_layers_with_weights() -> None:
    assert depth(vit(1)) + 2 * 4 == depth(vit(3))
    assert depth(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 2))) == 2


@pytest.mark.parametrize(
    ("student", "teacher", "told"),
    [
        (student_of(vit(2)), vit(2), ()),
        (student_of(vit(1)), vit(3), ()),
        (student_of(vit(3)), vit(2), ("more than its teacher's",)),
        (student_of(vit(1)), vit(12), ("small has 5 layers and its teacher 49, more than 5 times as many: an assistant",)),
        (student_of(vit(1), "dinov2", drop_path_rate=0.3), vit(2), ("small has options.drop_path_rate 0.3: DINOv2's students",)),
        (student_of(vit(1), "feature", drop_path_rate=0.3), vit(2), ()),
        (student_of(vit(3), "cross_entropy"), vit(2), ()),
    ],
    ids=["the same", "smaller", "larger", "shallow", "stochastic depth", "not of DINOv2", "learns without a teacher"],
)
def test_what_speaks_against_a_students_size_is_said(student: Student, teacher: TimmEncoder, told: tuple[str, ...]) -> None:
    found = list(doubts({"small": student}, teacher))
    assert len(found) == len(told)
    assert all(part in doubt for part, doubt in zip(told, found, strict=True))


def test_a_larger_student_is_noted_at_the_start_of_its_training(workspace: Path) -> None:
    tracker = Recorder()
    distilled(workspace, "s", tracker, teach(workspace), vit=StudentConfig(**VIT.model_dump()))
    assert any(note.startswith("vit has ") and "more than its teacher's" in note for note in tracker.notes)
