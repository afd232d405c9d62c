"""Method: what the training loop knows of a method. A method owns models and losses; the loop owns everything else."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from ssl_tasks.data.draw import Draw

Terms = dict[str, Tensor]
"""Named scalar loss terms, already weighted: the loop minimises their sum and records each."""


class Method(nn.Module, ABC):
    """A method in training.

    `progress` in [0, 1) is the share of the training that lies behind; every schedule is a function of it.
    Trainable parameters are those with `requires_grad`; everything a resume needs is in `state_dict`.
    """

    cohort = ""
    """Methods with the same name here see each other train: they go on from the same step and stay on the same device. None where empty."""

    skips_parameters = False
    """Whether trainable parameters are left out of some steps: their `requires_grad` is turned off and on."""

    @abstractmethod
    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """Augmented views of a batch.

        Args:
            images: uint8, (B, C, S, S), this process's share of the batch, on the device that trains.
            draw: the only source of randomness, on the same device.

        Returns:
            One float tensor a view, (B, C, H, W), normalised: global crops first. A method that masks patches adds its masks
            behind them. Whatever is returned has a row an image.
        """

    @abstractmethod
    def forward(self, views: list[Tensor], progress: float) -> Terms:
        """The loss of a batch of views; with several ranks, each rank's terms average to those of the whole batch."""

    def before_step(self, progress: float) -> None:
        """Called between backward and the optimizer's step, such as to hold a layer still."""

    def after_step(self, progress: float) -> None:
        """Called after the optimizer's step, such as to move an EMA teacher."""

    @abstractmethod
    def exported(self) -> nn.Module:
        """The encoder (`ssl_tasks.nn.encoder.TimmEncoder`) that is exported and that monitors look at."""

    def classifier(self) -> nn.Module | None:
        """The head over the exported encoder that is handed over with it, where the method trains a classifier."""
        return None

    def pace(self, progress: float) -> tuple[float, float]:
        """Where in the schedule of the learning rate a training is, in [0, 1], and a factor of the rate, for one that has phases of its own."""
        return progress, 1.0

    def rates(self) -> Mapping[str, float]:
        """Factors of the learning rate by names of parameters; 1 for all others."""
        return {}

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """Numbers of the method's own that tell a collapse, such as a teacher's entropy; called without gradient."""
        return {}
