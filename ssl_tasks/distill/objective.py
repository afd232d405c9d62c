"""Objective: one way to learn from a teacher, from peers or from labels. One short file a paper; a student may have several."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from schemas.distillers import DistillerSpec
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.loader import seed_of
from ssl_tasks.distill.network import Network, Seen, Shapes
from ssl_tasks.method import Terms


@dataclass(frozen=True)
class Setting:
    """What an objective is made for.

    Attributes:
        student: sizes of what the student says.
        teacher: of what the teacher says; None where there is none.
        network: the student, for an objective that begins with a copy of it or of a part; it must not be kept.
        images: how many the training set has.
        classes: of a classifier, in the order of the logits.
        heads: the teacher's prototype heads, frozen, for crops and for patches; None where it has none or nobody asks.
    """

    student: Shapes
    teacher: Shapes | None
    network: Network
    images: int
    classes: tuple[str, ...] = ()
    heads: nn.Module | None = None


@dataclass(frozen=True)
class Lesson:
    """A batch of B images as all students get it, on this process. See `Seen` for V.

    Attributes:
        teacher: what it says of the global views, without gradient; None where there is none.
        views: global ones, then local crops, as they were made.
        globals: how many are global, V.
        rows: (B,), numbers of the images in the training set.
        labels: (B,), class numbers, -1 where unknown; of a set without labels all are.
        seed: of what is drawn at this step; the same on every process.
        samples: images of the whole batch, over all processes; `own` says which of them are this process's.
        shared: what several students need and one of them has made, by a name; see `once`.
    """

    teacher: Seen | None
    views: list[Tensor]
    globals: int
    rows: Tensor
    labels: Tensor
    seed: int = 0
    samples: int = 0
    own: slice = field(default_factory=lambda: slice(None))
    shared: dict[str, Any] = field(default_factory=dict)

    def draw(self, name: str) -> Draw:
        """Random numbers of this step, a row an image, the same however many processes share the batch; other names, other numbers."""
        device = self.views[0].device
        return Draw(torch.Generator(device).manual_seed(seed_of(self.seed, name)), self.samples or len(self.rows), self.own)

    def of_views(self, each: Tensor) -> Tensor:
        """What each image has, (B, ...), for the joined global views, (V x B, ...)."""
        return each.repeat(self.globals, *[1] * (each.ndim - 1))

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made by the first who asks at this step."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]


class Objective(nn.Module, ABC):
    """A method's loss and the networks between student and loss that are thrown away afterwards.

    Everything that a resume needs is in `state_dict`; trainable parameters are those with `requires_grad`. `progress` in [0, 1) is the
    share of the training that lies behind.

    Args:
        config: of the method.
        setting: what it is made for.

    Raises:
        UserError: where student and teacher do not fit the method.
    """

    places = False
    """Whether `Seen.places` is wanted, of student and teacher, whatever the config says; see `wants_places`."""
    heads = False
    """Whether the teacher's prototype heads are wanted: `Setting.heads`."""

    def __init__(self, config: Any, setting: Setting) -> None:
        super().__init__()
        self.config: DistillerSpec = config

    @classmethod
    def wants_places(cls, _config: Any) -> bool:
        """Whether `Seen.places` is wanted under a config of the method, of student and teacher."""
        return cls.places

    @classmethod
    def wants_pooled(cls, _config: Any) -> bool:
        """Whether the student's pooled features, or the logits made of them, get a gradient under a config of the method."""
        return True

    @abstractmethod
    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        """Named loss terms, without `config.weight`; with several ranks, each rank's terms average to those of the whole batch."""

    def mask(self, lesson: Lesson, grid: int) -> Tensor | None:
        """Which patches (V x B, N) of the global views the student does not see; only of a method that masks patches."""
        return None

    def meet(self, peers: Mapping[str, Network]) -> None:
        """Called once with the networks of the other students of the pass that have this method. They are not this objective's to train."""

    def before_step(self, progress: float) -> None:
        """Called between backward and the optimizer's step."""

    def after_step(self, network: Network, progress: float) -> None:
        """Called after the optimizer's step with the student as it is then."""
