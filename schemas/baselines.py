"""Baselines: what each student of a distillation learns from when it is trained alone."""

from pydantic import ValidationError

from schemas.distillers import CrossEntropy
from schemas.methods import Method
from schemas.spec import Unfit
from schemas.stages import Distill, Pretrain
from schemas.starts import StudentStart
from schemas.students import Student

NAME_IT = "name another method, {kind: alone, method: ...}"
"""What to do where the teacher's own method cannot be a baseline's."""


def by_labels(stage: Distill, name: str) -> Student | None:
    """The baseline of a student that learns class scores: the same without the teacher, from labels.

    None for any other, and where the config names what baselines learn from.
    """
    assert stage.baseline
    student = stage.students[name]
    if stage.baseline.method or not any(method.of_scores for method in student.methods):
        return None
    return student.model_copy(update={"method": CrossEntropy(), "init_from": _without_teacher(student)})


def by_pretraining(stage: Distill, name: str, method: Method) -> Pretrain:
    """The baseline of a student that is pretrained by a method: the same network, images, budget and seed.

    Raises:
        Unfit: where the method does not fit the student.
    """
    student = stage.students[name]
    assert student.train is not None
    if "tokenizer" in method.takes:
        raise Unfit(f"baseline of '{name}': {method.kind} learns from a tokenizer, and a baseline has none; {NAME_IT}", "baseline")
    start = _without_teacher(student)
    try:
        return Pretrain.model_validate(
            {
                "dataset": stage.dataset,
                "method": method.model_dump(mode="json"),
                "encoder": student.encoder.model_dump(),
                "train": student.train.model_dump(mode="json"),
                "init_from": start.model_dump(exclude={"layers"}) if start else None,
                "seed": stage.seed,
            }
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise Unfit(f"baseline of '{name}': {reason}; or {NAME_IT}", "baseline") from error


def _without_teacher(student: Student) -> StudentStart | None:
    """Where a baseline starts from: where the student does, unless these are the teacher's own layers."""
    return None if student.init_from and student.init_from.layers else student.init_from
