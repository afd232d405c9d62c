"""Labels: the class numbers of a training set, in the order of the classifier that learns or teaches them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from schemas.artifacts import Checkpoint
from schemas.errors import UserError
from schemas.smoothing import against, label_smoothing, learn_scores
from schemas.stages import Distill
from schemas.students import Student

UNKNOWN = -1
"""Number of an image without label."""


@dataclass(frozen=True)
class Labels:
    """Attributes: `classes`, names in the order of the logits; `numbers`, one an image."""

    classes: list[str]
    numbers: list[int]

    @classmethod
    def of(cls, labels: Sequence[str | None], teacher: Checkpoint | None, students: Sequence[Student], stage: Distill) -> Self:
        """Classes of the teacher where it has any, else those that the images have, in the order of their names.

        They are the same whichever students of a stage are trained. Only where no student learns a teacher's scores may images be of
        classes that the teacher does not know: then its classes play no part.

        Raises:
            UserError: where labels are needed and there are none, or the teacher does not know one of them, or there is a single class.
        """
        methods = [method for student in students for method in student.methods]
        known = sorted({label for label in labels if label is not None})
        needing = next((method for method in methods if method.needs_labels), None)
        if needing and not known:
            raise UserError(f"{needing.kind} needs labels, and dataset '{stage.dataset}' has none: label some images, or take a method without")
        scored = [method for method in methods if method.of_scores]
        if not scored and not needing:
            return cls([], [UNKNOWN] * len(labels))
        taught, theirs = any(method.taught for method in scored), teacher.classes if teacher else []
        foreign = [label for label in known if label not in theirs]
        if taught and needing and foreign:
            raise UserError(
                f"dataset '{stage.dataset}' has the label '{foreign[0]}', which the teacher '{stage.teacher}' does not know; it knows {', '.join(theirs[:8])}"
            )
        classes = theirs if taught or (theirs and not foreign) else known
        if scored and len(classes) < 2:
            raise UserError(f"{scored[0].kind} learns to tell classes apart, and there is only '{classes[0]}' in dataset '{stage.dataset}'")
        number = {label: i for i, label in enumerate(classes)}
        return cls(list(classes), [UNKNOWN if label is None else number.get(label, UNKNOWN) for label in labels])


def doubt(teacher: Checkpoint, students: Sequence[Student]) -> str:
    """What speaks against learning the class scores of this teacher; empty where nothing does."""
    smoothing = label_smoothing(teacher.config)
    return against(teacher.stage, smoothing) if smoothing and learn_scores(students) else ""
