"""Baselines: each student trained once more without the teacher, from the same first weights, on the same images, with the same budget."""

from pydantic import ValidationError

from schemas.artifacts import Checkpoint
from schemas.distillers import CrossEntropy
from schemas.errors import UserError
from schemas.methods import Method as MethodConfig
from schemas.stages import Distill, Pretrain
from schemas.starts import StudentStart
from schemas.students import Student


def by_labels(stage: Distill, name: str) -> Student | None:
    """The baseline of a student that learns class scores: the same without the teacher, from labels.

    None for any other, and where the config names what baselines learn from.
    """
    assert stage.baseline
    student = stage.students[name]
    if stage.baseline.method or not any(method.of_scores for method in student.methods):
        return None
    return student.model_copy(update={"method": CrossEntropy(), "init_from": _without_teacher(student)})


def by_pretraining(stage: Distill, name: str, teacher: Checkpoint | None) -> Pretrain:
    """The baseline of a student that learns no class scores: a pretraining by the method of the config, or by the teacher's own.

    Raises:
        UserError: where the teacher was not pretrained here, or its method does not fit the student.
    """
    assert stage.baseline
    student = stage.students[name]
    method: MethodConfig | dict[str, object] | None = stage.baseline.method
    if method is None:
        if teacher is None or teacher.kind != "pretrain":
            raise UserError(f"baseline: the teacher of '{name}' was not made by a pretrain stage: name its method, {{kind: alone, method: ...}}")
        method = teacher.config["method"]
    assert student.train is not None
    start = _without_teacher(student)
    written = method if isinstance(method, dict) else method.model_dump(mode="json")
    try:
        return Pretrain.model_validate(
            {
                "dataset": stage.dataset,
                "method": written,
                "encoder": student.encoder.model_dump(),
                "train": student.train.model_dump(mode="json"),
                "init_from": start.model_dump(exclude={"layers"}) if start else None,
                "seed": stage.seed,
            }
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"baseline of '{name}': {reason}; or name another method, {{kind: alone, method: ...}}") from error


def _without_teacher(student: Student) -> StudentStart | None:
    """Where a baseline starts from: where the student does, unless these are the teacher's own layers."""
    return None if student.init_from and student.init_from.layers else student.init_from
