"""What each objective on class scores does with a lesson: temperatures, weights, images without label, ranks, views."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from schemas.artifacts import Checkpoint
from schemas.distillers import DKD, BornAgain, Bucila, CrossEntropy, DistillerSpec, Feature, Hinton, Logits, SoftLabels, TfKD
from schemas.encoders import Encoder
from schemas.errors import UserError
from schemas.stages import Distill
from ssl_tasks.distill.labels import Labels, doubt
from ssl_tasks.distill.network import Network, Seen, Shapes
from ssl_tasks.distill.objective import Lesson, Setting
from ssl_tasks.distill.objectives import build
from ssl_tasks.losses.scores import cross_entropy, decoupled, divergence
from ssl_tasks.method import Terms
from ssl_tasks.nn.encoder import TimmEncoder

ENCODER = Encoder(name="resnetv2_18", image_size=8, channels=1, stem="half", options={"layers": [1, 1], "channels": [4, 8], "stem_chs": 4})
CLASSES = ("a", "b", "c", "d")


def logits(seed: int, rows: int = 6) -> Tensor:
    return 3 * torch.randn(rows, len(CLASSES), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seen(scores: Tensor) -> Seen:
    return Seen(torch.zeros(len(scores), 1), logits=scores)


STUDENT, TEACHER = logits(1), logits(2)
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])
LESSON = Lesson(seen(TEACHER), [torch.zeros(6, 1, 8, 8)], 1, torch.arange(6), LABELS, seed=3)


def setting() -> Setting:
    network = Network(TimmEncoder(ENCODER))
    shapes = Shapes(8, 8, (0, 0), {}, len(CLASSES), 8)
    return Setting(shapes, shapes, network, 20, CLASSES)


def terms(config: DistillerSpec, lesson: Lesson = LESSON, student: Tensor = STUDENT, progress: float = 0.5) -> Terms:
    found: Terms = build(config, setting())(seen(student), lesson, progress)
    return found


def values(*arguments: Any, **named: Any) -> dict[str, float]:
    return {name: term.item() for name, term in terms(*arguments, **named).items()}


def partly(labels: list[int]) -> Lesson:
    return replace(LESSON, labels=torch.tensor(labels), shared={})


def test_hintons_terms_are_weighed_by_alpha_and_the_teachers_by_t_squared() -> None:
    found = values(Hinton(temperature=3.0, alpha=0.7))
    assert found["hinton_teacher"] == pytest.approx(0.7 * divergence(STUDENT, TEACHER, 3.0).item())
    assert found["hinton_labels"] == pytest.approx(0.3 * cross_entropy(STUDENT, LABELS).item())
    assert list(values(Hinton(alpha=1.0))) == ["hinton_teacher"]


@pytest.mark.parametrize(
    "config", [CrossEntropy(), Hinton(), DKD(), SoftLabels(label_weight=0.5), BornAgain(), BornAgain(variant="cwtm"), TfKD()], ids=lambda config: config.kind
)
def test_what_is_learned_from_labels_is_learned_from_labelled_images_alone(config: DistillerSpec) -> None:
    """A student that is right about those with a label and any about the others has the same terms of labels."""
    some = partly([0, -1, 2, -1, -1, 1])
    rows = LABELS.new_tensor([0, 2, 5])
    alone = replace(LESSON, teacher=seen(TEACHER[rows]), labels=some.labels[rows], rows=rows, views=[torch.zeros(3, 1, 8, 8)], shared={})
    images = {"hinton_teacher", "soft_labels", "born_again_teacher"}
    expected = {name: value for name, value in values(config, alone, STUDENT[rows]).items() if name not in images}
    assert expected
    assert {name: value for name, value in values(config, some).items() if name not in images} == pytest.approx(expected)


@pytest.mark.parametrize("config", [Bucila(), Logits(), Hinton(alpha=1.0), SoftLabels(), BornAgain(label_weight=0.0)], ids=lambda config: config.kind)
def test_without_labels_every_image_counts(config: DistillerSpec) -> None:
    assert not config.needs_labels
    assert values(config, partly([-1] * 6)) == values(config)
    assert terms(config, student=TEACHER.clone()).keys() == terms(config).keys()


@pytest.mark.parametrize("config", [Bucila(), Logits(), Hinton(alpha=1.0), BornAgain(label_weight=0.0)], ids=lambda config: config.kind)
def test_a_student_that_says_what_the_teacher_says_has_no_loss(config: DistillerSpec) -> None:
    assert list(values(config, student=TEACHER.clone()).values()) == pytest.approx([0.0], abs=1e-12)


def test_a_constant_on_all_logits_is_seen_by_the_regression_of_logits_alone() -> None:
    shifted = TEACHER + 1
    assert values(Logits(), student=shifted)["logits"] == pytest.approx(len(CLASSES) / 2)
    assert values(Bucila(), student=shifted)["bucila"] == pytest.approx(0, abs=1e-12)


def test_dkd_rises_over_its_warmup() -> None:
    config = DKD(warmup=0.1, alpha=2.0, beta=3.0)
    target, others = (part.item() for part in decoupled(STUDENT, TEACHER, LABELS, 4.0))
    for progress, share in ((0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.9, 1.0)):
        found = values(config, progress=progress)
        assert (found["dkd_target"], found["dkd_others"]) == pytest.approx((2 * share * target, 3 * share * others))
        assert found["dkd_labels"] == pytest.approx(cross_entropy(STUDENT, LABELS).item())
    assert values(DKD(warmup=0.0), progress=0.0)["dkd_target"] == pytest.approx(target)


def test_soft_labels_share_the_loss_with_those_that_there_are() -> None:
    found = values(SoftLabels(label_weight=0.25), partly([0, -1, -1, -1, -1, -1]))
    p, q = TEACHER.softmax(dim=1), STUDENT.log_softmax(dim=1)
    assert found["soft_labels"] == pytest.approx(0.75 * -(p * q).sum(dim=1).mean().item())
    assert found["soft_labels_labelled"] == pytest.approx(0.25 * -q[0, 0].item())


def test_confidence_weighs_a_labels_share_of_the_whole_batch() -> None:
    weights = TEACHER.softmax(dim=1).amax(dim=1)
    each = -STUDENT.log_softmax(dim=1)[torch.arange(6), LABELS]
    assert values(BornAgain(variant="cwtm", label_weight=2.0)) == pytest.approx({"born_again_weighed": 2 * ((weights * each).sum() / weights.sum()).item()})
    with pytest.raises(ValidationError, match="cwtm learns from labels alone: set label_weight above 0"):
        BornAgain(variant="cwtm", label_weight=0.0)


def test_permuted_classes_are_drawn_anew_at_each_step_and_for_each_view() -> None:
    """The teacher is sure of the first class; a student of the same logits but for two others tells where they have gone."""
    config = BornAgain(variant="dkpp", label_weight=0.0)
    said = torch.tensor([[9.0, 3.0, 2.0, 1.0]], dtype=torch.float64).expand(400, -1)
    lesson = Lesson(seen(said), [torch.zeros(200, 1, 8, 8)] * 2, 2, torch.arange(200), torch.zeros(200, dtype=torch.long), seed=3)

    def order(lesson: Lesson) -> Tensor:
        """Which of the classes each view's student must say most of after the first, by the gradient."""
        student = said.clone().requires_grad_()
        torch.autograd.backward(torch.stack(list(terms(config, lesson, student).values())).sum())
        assert student.grad is not None
        return student.grad[:, 1:]

    first = order(lesson)
    assert torch.equal(first, order(replace(lesson, shared={})))
    assert not torch.equal(first, order(replace(lesson, seed=4, shared={})))
    assert not torch.equal(first[:200], first[200:])
    unmoved = (first.abs().sum(dim=1) < 1e-12).double().mean().item()
    assert unmoved == pytest.approx(1 / math.factorial(3), abs=0.08)


def test_the_teacher_made_by_hand_is_nearly_even_and_weighs_little() -> None:
    found = values(TfKD())
    even = torch.full((6, 4), 0.25, dtype=torch.float64)
    evenly = (even * (even.log() - STUDENT.log_softmax(dim=1))).sum(dim=1).mean().item()
    assert found["tf_kd_teacher"] == pytest.approx(0.1 * evenly, rel=0.05)
    assert found["tf_kd_labels"] == pytest.approx(0.9 * cross_entropy(STUDENT, LABELS).item())


# Labels


def stage(method: DistillerSpec, teacher: str | None = "tuned") -> Distill:
    return Distill.model_validate({"dataset": "data", "teacher": teacher, "method": method.model_dump(), "students": {"s": ENCODER.model_dump()}})


def numbered(labels: list[str | None], method: DistillerSpec, teacher: Checkpoint | None = None) -> Labels:
    written = stage(method)
    return Labels.of(labels, teacher, list(written.students.values()), written)


def knowing(*classes: str, **config: Any) -> Checkpoint:
    made = {"encoder": ENCODER, "mean": [0.5], "std": [0.5], "dim": 8, "exported": "encoder", "classes": list(classes), "stage": "tuned", "config": config}
    return Checkpoint.model_construct(**made)


def test_classes_are_the_teachers_in_its_order() -> None:
    labels = numbered(["a", None, "c"], Hinton(), knowing("c", "b", "a"))
    assert labels == Labels(["c", "b", "a"], [2, -1, 0])


def test_without_a_classifier_as_teacher_classes_are_those_of_the_images() -> None:
    assert numbered(["b", "a", None], CrossEntropy()) == Labels(["a", "b"], [1, 0, -1])
    assert numbered(["b", "a", None], CrossEntropy(), knowing()) == Labels(["a", "b"], [1, 0, -1])


def test_who_learns_no_scores_has_no_classes() -> None:
    assert numbered(["b", None], Feature()) == Labels([], [-1, -1])


def test_a_baseline_learns_the_classes_that_its_student_learns() -> None:
    """Also those that no image has, and whoever is trained beside it."""
    teacher = knowing("c", "b", "a")
    assert numbered(["a", "b"], CrossEntropy(), teacher) == Labels(["c", "b", "a"], [2, 1])


def test_labels_that_the_teacher_does_not_know_are_refused_where_they_are_needed() -> None:
    teacher = knowing("a", "b")
    with pytest.raises(UserError, match="dataset 'data' has the label 'x', which the teacher 'tuned' does not know; it knows a, b"):
        numbered(["a", "x"], Hinton(), teacher)
    assert numbered(["a", "x", None], SoftLabels(), teacher) == Labels(["a", "b"], [0, -1, -1])
    assert numbered(["a", "x"], CrossEntropy(), teacher) == Labels(["a", "x"], [0, 1])


def test_images_without_any_label_are_refused_where_labels_are_needed() -> None:
    with pytest.raises(UserError, match="hinton needs labels, and dataset 'data' has none: label some images, or take a method without"):
        numbered([None, None], Hinton(), knowing("a", "b"))
    assert numbered([None, None], Logits(), knowing("a", "b")) == Labels(["a", "b"], [-1, -1])


def test_a_single_class_is_refused() -> None:
    with pytest.raises(UserError, match="cross_entropy learns to tell classes apart, and there is only 'a' in dataset 'data'"):
        numbered(["a", "a", None], CrossEntropy())


@pytest.mark.parametrize(
    "config",
    [{"smoothing": 0.1}, {"students": {"t": {"method": {"kind": "cross_entropy", "smoothing": 0.1}}}}, {"students": {"t": {"method": [{"smoothing": 0.1}]}}}],
    ids=["finetuned", "distilled", "by two methods"],
)
def test_a_teacher_trained_with_label_smoothing_is_doubted_by_who_learns_its_scores(config: dict[str, Any]) -> None:
    teacher = knowing("a", "b", **config)
    learner, other = (list(stage(method).students.values()) for method in (Hinton(), Feature()))
    assert doubt(teacher, learner).startswith("the teacher 'tuned' was trained with label smoothing 0.1")
    assert doubt(teacher, other) == ""
    assert doubt(knowing("a", "b", smoothing=0.0), learner) == doubt(knowing("a", "b", method={"kind": "simclr"}), learner) == ""
