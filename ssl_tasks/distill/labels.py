"""Labels: the class numbers of a training set, in the order of the classifier that learns or teaches them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from schemas.artifacts import Checkpoint
from schemas.errors import UserError
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
        """Classes of the teacher where one teaches class scores, else those that the images have.

        Raises:
            UserError: where labels are needed and there are none, or the teacher does not know one of them.
        """
        methods = [method for student in students for method in student.methods]
        scored = [method for method in methods if method.of_scores]
        known = sorted({label for label in labels if label is not None})
        needing = next((method for method in methods if method.needs_labels), None)
        if needing and not known:
            raise UserError(f"{needing.kind} needs labels, and dataset '{stage.dataset}' has none: label some images, or take a method without")
        classes = teacher.classes if teacher and any(method.taught for method in scored) else known if scored or needing else []
        foreign = [label for label in known if label not in classes] if classes else []
        if foreign and needing:
            raise UserError(
                f"dataset '{stage.dataset}' has the label '{foreign[0]}', which the teacher '{stage.teacher}' does not know; it knows {', '.join(classes[:8])}"
            )
        number = {label: i for i, label in enumerate(classes)}
        return cls(list(classes), [UNKNOWN if label is None else number.get(label, UNKNOWN) for label in labels])
