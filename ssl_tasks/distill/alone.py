"""Baselines: each student trained once more without the teacher, from the same first weights, on the same images, with the same budget."""

from pydantic import TypeAdapter

from schemas import baselines
from schemas.artifacts import Checkpoint
from schemas.errors import UserError
from schemas.methods import Method
from schemas.spec import Unfit
from schemas.stages import Distill, Pretrain


def by_pretraining(stage: Distill, name: str, teacher: Checkpoint | None) -> Pretrain:
    """The baseline of a student that learns no class scores: a pretraining by the method of the config, or by the teacher's own.

    Raises:
        UserError: where the teacher was not pretrained here, or its method does not fit the student.
    """
    assert stage.baseline
    method = stage.baseline.method
    if method is None:
        if teacher is None or teacher.kind != "pretrain":
            raise UserError(f"baseline: the teacher of '{name}' was not made by a pretrain stage: {baselines.NAME_IT}")
        method = TypeAdapter[Method](Method).validate_python(teacher.config["method"])
    try:
        return baselines.by_pretraining(stage, name, method)
    except Unfit as error:
        raise UserError(str(error)) from error
