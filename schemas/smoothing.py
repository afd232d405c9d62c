"""Label smoothing of a teacher, which costs the students that learn its class scores."""

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.references import split
from schemas.stages import Distill, StageBase, output_config
from schemas.students import Student


def label_smoothing(config: Mapping[str, Any]) -> float:
    """The share of each label that was spread over all classes when a checkpoint was trained; 0 where labels played no part.

    Args:
        config: of a stage as far as it concerns that checkpoint, as an artifact keeps it.
    """
    trained = list(config.get("students", {"": config}).values())
    methods = [method for each in trained for method in _listed(each.get("method"))]
    return max((float(each.get("smoothing") or 0) for each in (*trained, *methods)), default=0.0)


def of_teacher(stage: Distill, stages: Mapping[str, StageBase]) -> str:
    """What speaks against the teacher of a stage whose students learn class scores; empty where nothing does."""
    if stage.teacher is None or not learn_scores(stage.students.values()):
        return ""
    name, output = split(stage.teacher)
    smoothing = label_smoothing(output_config(stages[name], output or stages[name].outputs[0]))
    return against(stage.teacher, smoothing) if smoothing else ""


def learn_scores(students: Iterable[Student]) -> bool:
    """Whether any of them learns a teacher's class scores."""
    return any(method.of_scores and method.taught for student in students for method in student.methods)


def against(teacher: str, smoothing: float) -> str:
    """What speaks against a teacher that was trained so, for one who learns its class scores."""
    return (
        f"the teacher '{teacher}' was trained with label smoothing {smoothing:g}, after which its scores hardly tell which other classes an image is "
        "near to, and students learn less from them: set its smoothing to 0 (Mueller et al., 2019: https://arxiv.org/abs/1906.02629)"
    )


def _listed(methods: Any) -> list[Any]:
    """One method, a list of them, or none, as a list."""
    return methods if isinstance(methods, list) else [methods] if methods else []
