"""Distiller: a method whose student learns from what a frozen teacher makes of the same views. One short file a way of learning."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment, resized
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder


class Distiller(Method):
    """A student in training. The teacher stays outside: its forward is done once a batch, for all students.

    Several students share views, which are made at the image size of one of them: `see` resizes them to the student's own.
    """

    def __init__(self, views: Views, student: TimmEncoder) -> None:
        super().__init__()
        self.student = student
        self._views = views

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self._views, images, self.student.config.image_size, draw)

    @abstractmethod
    def forward(self, views: list[Tensor], targets: Tensor, progress: float) -> Terms:  # type: ignore[override]  # the loop hands targets to distillers only
        """The student's loss, as `Method.forward`.

        Args:
            targets: the teacher's pooled features of the views joined in their order, (V * B, teacher_dim), without gradient.
        """

    def see(self, views: list[Tensor]) -> Tensor:
        """The student's pooled features of the views joined in their order, (V * B, dim)."""
        features: Tensor = self.student(torch.cat([resized(view, self.student.config.image_size) for view in views]))
        return features

    def exported(self) -> nn.Module:
        return self.student
