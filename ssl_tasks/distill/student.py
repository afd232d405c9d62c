"""Student: a network in training under one or several objectives. The teacher stays outside: its forward is done once for all students."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from schemas.students import Student as StudentConfig
from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment, resized
from ssl_tasks.distill.network import PLACES, Network
from ssl_tasks.distill.objective import Lesson, Objective
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.encoder import TimmEncoder


class Student(Method):
    """A student in training.

    Several students share views, which are made for the teacher's image size: each sees them resized to its own.

    Attributes:
        network: encoder, and classifier where it learns class scores.
        average: the moving average of the network that is handed over in its place; None where the network itself is.
        mask_token: takes the place of a patch that the student does not see; None where it sees all.
    """

    def __init__(self, config: StudentConfig, views: Views, network: Network, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.config, self._views = config, views
        self.network, self.objectives = network, nn.ModuleList(objectives)
        if not any(objective.wants_pooled(objective.config) for objective in objectives):
            layers = [tap.student for objective in objectives for tap in objective.config.taps]
            network.hold_still_but([*layers, *[PLACES] * network.places])
        self.average = Teacher(network) if config.ema else None
        masks = any(objective.config.masks_patches for objective in objectives)
        self.mask_token = nn.Parameter(torch.zeros(network.encoder.width)) if masks else None

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self._views, images, self._encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], lesson: Lesson, progress: float) -> Terms:  # type: ignore[override]  # the loop hands a lesson to students only
        """The student's loss, as `Method.forward`, each term weighed and named by the objective that it is of."""
        size = self._encoder.config.image_size
        crops = [resized(view, size) for view in views[: lesson.globals]]
        local = [resized(view, self._views.local_side(size)) for view in views[lesson.globals :]]
        seen = self.network(crops, local, self._mask(lesson), self.mask_token)
        terms: Terms = {}
        for objective in self.each():
            named: Terms = objective(seen, lesson, progress)
            terms |= {name: objective.config.weight * term for name, term in named.items()}
        return terms

    def before_step(self, progress: float) -> None:
        for objective in self.each():
            objective.before_step(progress)

    def after_step(self, progress: float) -> None:
        if self.average is not None:
            assert self.config.ema
            self.average.follow(self.network, self.config.ema)
        for objective in self.each():
            objective.after_step(self.network, progress)

    def exported(self) -> nn.Module:
        return self._handed_over.encoder

    def classifier(self) -> nn.Module | None:
        return self._handed_over.classifier

    def each(self) -> tuple[Objective, ...]:
        """The objectives, in the order of the config."""
        return cast(tuple[Objective, ...], tuple(self.objectives))

    @property
    def cohort(self) -> str:  # type: ignore[override]  # what a method states once follows here from the config
        """Students whose objectives look at each other while they train are one."""
        return next((method.kind for method in self.config.methods if method.cohort), "")

    @property
    def _handed_over(self) -> Network:
        network = self.network if self.average is None else self.average.network
        assert isinstance(network, Network)
        return network

    @property
    def _encoder(self) -> TimmEncoder:
        return self.network.encoder

    def _mask(self, lesson: Lesson) -> Tensor | None:
        for objective in self.each():
            if objective.config.masks_patches:
                mask: Tensor | None = objective.mask(lesson, self._encoder.grid(self._encoder.config.image_size))
                return mask
        return None
