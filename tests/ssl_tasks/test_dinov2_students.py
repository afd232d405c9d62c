"""DINOv2's recipe for students: its terms by the papers' formulas, which patches are looked at, and where the teacher's heads come from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from formulas import Matrix, koleo_by_formula, softmax
from numpy.testing import assert_allclose
from small_methods import BATCH, CASES, ENCODERS, heads, inputs, teacher
from test_distill import VIEWS as ONE_VIEW
from test_distill import job, teach, workspace
from tiny_training import CONV, DINO, TRAIN, VIT, Recorder
from torch import Tensor

from schemas import methods as configs
from schemas.artifacts import Checkpoint
from schemas.distillers import DINOv2Students
from schemas.errors import UserError
from schemas.stages import Distill, Pretrain
from schemas.students import Student as StudentConfig
from ssl_tasks.checkpoints import load_training_state
from ssl_tasks.data.draw import Draw
from ssl_tasks.distill import distill
from ssl_tasks.distill.self_distillation import dinov2
from ssl_tasks.distill.student import Student
from ssl_tasks.distill.teacher import prototype_heads
from ssl_tasks.nn.heads import PrototypeHead
from ssl_tasks.nn.patch_distillation import Heads
from ssl_tasks.pretrain import pretrain

__all__ = ["workspace"]
STUDENT, TEACHER = 0.1, 0.07
VIEWS = ONE_VIEW.model_copy(update={"count": 2})
PATCHES: Any = {"views": DINO.views, "prototypes": 16, "hidden": 16, "bottleneck": 8}
OWN: Any = {"patch_prototypes": 12, "patch_hidden": 16, "patch_bottleneck": 8}
METHODS: dict[str, configs.Method] = {
    "dino": DINO,
    "ibot": configs.IBOT(**PATCHES),
    "ibot with two heads": configs.IBOT(**PATCHES, shared_head=False),
    "dinov2": configs.DINOv2(**PATCHES, **OWN),
    "dinov3": configs.DINOv3(**PATCHES, **OWN, gram=0),
}


def student(encoder: str = "vit", **changes: Any) -> Student:
    case = CASES[f"distill-dinov2-{encoder}"]
    made = replace(case, config=case.config.model_copy(update=changes)).make().double()
    assert isinstance(made, Student)
    return made


def seen_of(made: Student, seed: int = 0) -> tuple[Any, Any]:
    """What the student sees of two global crops and two local ones of random images, and the lesson."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (BATCH, 1, 18, 18), dtype=torch.uint8, generator=generator)
    views = [view.double() for view in made.views(images, Draw(generator, BATCH))]
    return made.network(views[:2], views[2:]), inputs(made, views)[1]


def balanced(logits: Matrix, temperature: float) -> Matrix:
    """Sinkhorn-Knopp as SwAV's appendix A writes it: prototypes, then samples, three times."""
    q = np.exp((logits - logits.max()) / temperature)
    for _ in range(3):
        q /= q.sum(axis=0, keepdims=True) * q.shape[1]
        q /= q.sum(axis=1, keepdims=True) * q.shape[0]
    codes: Matrix = q * len(q)
    return codes


def cross_entropy(target: Matrix, logits: Matrix) -> Matrix:
    losses: Matrix = -(target * np.log(softmax(logits / STUDENT))).sum(axis=-1)
    return losses


def head(module: Any, features: Tensor) -> Matrix:
    with torch.no_grad():
        logits: Matrix = module.double()(features).numpy()
    return logits


def test_the_terms_are_dinos_and_ibots_equations_with_the_frozen_teachers_answers() -> None:
    made = student(patches=1.0, patch_weight=0.5, koleo=0.2)
    objective: Any = made.each()[0]
    seen, lesson = seen_of(made)
    terms = {name: term.item() for name, term in objective(seen, lesson, 0.9).items()}
    taught = np.split(balanced(head(heads().crops, lesson.teacher.pooled), TEACHER), 2)
    said = np.split(head(objective.crop_head, torch.cat([seen.pooled, seen.local])), 4)
    pairs = [cross_entropy(taught[t], said[s]).mean() for t in range(2) for s in range(4) if s != t]
    assert len(pairs) == 6
    assert_allclose(terms["dinov2_crops"], np.mean(pairs), rtol=1e-6)
    patches = balanced(head(heads().patches, lesson.teacher.places.flatten(0, 1)), TEACHER)
    own = head(objective.patch_head, seen.places.flatten(0, 1))
    assert_allclose(terms["dinov2_patches"], 0.5 * cross_entropy(patches, own).mean(), rtol=1e-6)
    crops = [koleo_by_formula(crop.detach().numpy()) for crop in seen.pooled.chunk(2)]
    assert_allclose(terms["dinov2_koleo"], 0.2 * sum(crops), rtol=1e-6)


def test_a_share_of_each_global_crops_patches_is_looked_at_and_none_is_masked() -> None:
    made = student(patches=0.25)
    _, lesson = seen_of(made)
    chosen = dinov2._chosen(lesson, 16, 0.25)
    assert chosen.shape == (2 * BATCH, 4)
    assert all(len(set(row)) == 4 for row in chosen.tolist()), "no patch twice"
    assert len({tuple(sorted(row)) for row in chosen.tolist()}) > BATCH, "every crop has its own"
    assert made.mask_token is None


def test_patches_that_are_not_looked_at_do_not_matter() -> None:
    made = student(patches=0.25)
    objective: Any = made.each()[0]
    seen, lesson = seen_of(made)
    seen.places.retain_grad()
    objective(seen, lesson, 0.9)["dinov2_patches"].backward()
    assert seen.places.grad is not None
    moved = seen.places.grad.abs().sum(dim=2) > 0
    expected = torch.zeros_like(moved).scatter(1, dinov2._chosen(lesson, 16, 0.25), True)
    assert torch.equal(moved, expected)


def test_the_teachers_heads_are_asked_once_for_all_students(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    forward = PrototypeHead.forward

    def counted(self: PrototypeHead, features: Tensor) -> Tensor:
        asked.extend([len(features)] * (not self.prototypes.weight.requires_grad))
        return forward(self, features)

    monkeypatch.setattr(PrototypeHead, "forward", counted)
    first, second = student(), student("convnet")
    seen, lesson = seen_of(first)
    first.each()[0](seen, lesson, 0.9)
    assert asked == [2 * BATCH, 2 * BATCH * 4]
    other, _ = seen_of(second)
    second.each()[0](other, lesson, 0.9)
    assert len(asked) == 2


def test_the_teachers_heads_are_no_part_of_the_students_state() -> None:
    made = student()
    whole = {name: value.shape for name, value in made.state_dict().items()}
    assert {name.split(".")[2] for name in whole if name.startswith("objectives")} == {"crop_head", "patch_head", "crop_targets", "patch_targets"}
    frozen: Any = heads().crops
    own: Any = made.each()[0]
    assert own.crop_head.prototypes.weight.shape == frozen.prototypes.weight.shape
    assert own.crop_head.mlp[0].in_features == 32
    assert frozen.mlp[0].in_features == 24


def test_a_convnets_places_are_brought_to_the_teachers_grid() -> None:
    small = replace(CASES["distill-dinov2-convnet"], encoder=ENCODERS["convnet"].model_copy(update={"image_size": 8}))
    made: Any = small.make().double()
    seen = made.network([torch.rand(BATCH, 1, 8, 8, dtype=torch.float64)] * 2)
    lesson = seen_of(student())[1]
    assert (seen.places.shape[1], lesson.teacher.places.shape[1]) == (4, 16)
    term = made.each()[0](seen, lesson, 0.9)["dinov2_patches"]
    even = seen.places.mean(dim=1, keepdim=True).expand_as(seen.places)
    flat: Any = type(seen)(seen.pooled, even)
    assert term.isfinite()
    assert not torch.allclose(term, made.each()[0](flat, lesson, 0.9)["dinov2_patches"]), "where in the image a place is matters"


def test_the_last_layers_stand_still_at_first_and_then_move() -> None:
    for progress, still in ((0.1, True), (0.3, False)):
        made = student(freeze_last_layer=0.2)
        objective: Any = made.each()[0]
        seen, lesson = seen_of(made)
        sum(objective(seen, lesson, progress).values()).backward()
        made.before_step(progress)
        for own in (objective.crop_head, objective.patch_head):
            assert (own.prototypes.weight.grad is None) == still
            assert own.mlp[0].weight.grad is not None


def test_the_center_follows_the_teachers_logits() -> None:
    made = student(centering="center", center_momentum=0.75)
    objective: Any = made.each()[0]
    seen, lesson = seen_of(made)
    objective(seen, lesson, 0.9)
    assert_allclose(objective.crop_targets.center, 0.25 * head(heads().crops, lesson.teacher.pooled).mean(axis=0), rtol=1e-6)


def test_without_patches_their_places_are_not_asked_for() -> None:
    made = student(patch_weight=0.0)
    assert not made.network.places
    seen, lesson = seen_of(made)
    assert seen.places is None
    assert set(made.each()[0](seen, lesson, 0.9)) == {"dinov2_crops", "dinov2_koleo"}


def test_a_teacher_without_a_head_for_patches_is_refused_unless_they_are_left_out() -> None:
    setting: Any = type("Setting", (), {"heads": Heads(PrototypeHead(24, 8, 4, 6), None), "teacher": teacher(torch.float32).shapes()})
    with pytest.raises(UserError, match="the teacher has no head for patches, as its method looked at none: set patch_weight to 0"):
        dinov2.DINOv2Students(DINOv2Students(), setting)


def pretrained(workspace: Path, method: configs.Method, keep: bool = True) -> Checkpoint:
    stage = Pretrain(dataset="data", method=method, encoder=VIT, train=TRAIN.model_copy(update={"epochs": 1, "monitors": 0}), keep_training_state=keep, seed=5)
    made = pretrain(job(workspace, "teacher", stage, {"data": "data"}, {"": "teacher"}), Recorder())[""]
    assert isinstance(made, Checkpoint)
    return made


@pytest.mark.parametrize("name", METHODS)
def test_heads_are_those_of_the_moving_average(workspace: Path, name: str) -> None:
    artifact = pretrained(workspace, METHODS[name])
    found = prototype_heads(artifact)
    state = load_training_state(artifact)["method"]
    where = "teacher_head.network" if name == "dino" else "pair.teacher_heads.network.crops"
    assert all(torch.equal(value, state[f"{where}.{part}"]) for part, value in found.crops.state_dict().items())
    assert not any(p.requires_grad for p in found.parameters())
    shared = name == "ibot"
    assert (found.patches is found.crops) == shared
    assert (found.patches is None) == (name == "dino")
    if found.patches and not shared:
        own = "pair.teacher_heads.network.patches"
        assert all(torch.equal(value, state[f"{own}.{part}"]) for part, value in found.patches.state_dict().items())


def test_a_teacher_of_another_family_is_refused_by_what_it_was(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"pretrained by dino, ibot, dinov2, dinov3, and 'teacher' was pretrained by simclr"):
        prototype_heads(teach(workspace))
    student = pretrained(workspace, DINO).model_copy(update={"kind": "distill", "stage": "students"})
    with pytest.raises(UserError, match=r"and 'students' was made by a distill stage"):
        prototype_heads(student)


def test_a_teacher_that_did_not_keep_its_training_state_is_refused_with_what_to_set(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"did not keep its training state: set stages\.teacher\.keep_training_state to true"):
        prototype_heads(pretrained(workspace, DINO, keep=False))


@pytest.mark.parametrize("name", ["dino", "dinov2"])
def test_students_of_two_architectures_learn_in_one_pass(workspace: Path, name: str) -> None:
    pretrained(workspace, METHODS[name])
    config = DINOv2Students(hidden=16, teacher_temperature_warmup=0.0, patch_weight=0.0 if name == "dino" else 1.0)
    students = {"vit": StudentConfig(**VIT.model_dump(), ema=0.9), "conv": StudentConfig(**CONV.model_dump())}
    stage = Distill(dataset="data", teacher="teacher", method=config, students=students, views=VIEWS, train=TRAIN, seed=5)
    tracker = Recorder()
    made = distill(job(workspace, "s", stage, {"data": "data", "teacher": "teacher"}, {"vit": "vit", "conv": "conv"}), tracker)
    assert set(made) == {"vit", "conv"}
    for student in students:
        losses = [values[f"{student}/train/dinov2_crops"] for _, values in tracker.points if f"{student}/train/dinov2_crops" in values]
        assert losses[-1] < losses[0]
