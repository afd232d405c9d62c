"""Classification: an encoder and a head that learn the labels of images, as far as a strategy lets them."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from schemas.stages import Finetune
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import MEAN_STD, augment
from ssl_tasks.finetune import strategies
from ssl_tasks.finetune.lora import merge
from ssl_tasks.losses.scores import cross_entropy
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.batchnorm import GlobalBatchNorm
from ssl_tasks.nn.classifier import Classifier
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import prepare


class Classification(Method):
    """A classifier in training by cross-entropy.

    What is frozen has no gradient. While all of the encoder is frozen it is in eval mode: no running statistic moves and nothing is
    dropped. Frozen batch norms are always: they normalise by the running statistics that they came with, and these stay; their gains and
    biases are trained with the block that they are in. A batch norm whose gains are frozen is frozen too.

    Args:
        stage: strategy, views, smoothing, and whether batch norms are frozen.
        classifier: the encoder with a fresh head.

    Raises:
        UserError: where the strategy does not fit the encoder.
    """

    def __init__(self, stage: Finetune, classifier: Classifier) -> None:
        super().__init__()
        self.stage, self.model = stage, classifier
        self.plan = strategies.plan(stage.strategy, classifier)
        self.skips_parameters = len(self.plan.phases) > 1
        self._phase = -1
        self._let_learn(len(self.plan.groups))  # what is ever trained; an optimizer takes no more

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.stage.views, images, self.model.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], labels: Tensor, progress: float) -> Terms:  # type: ignore[override]  # the stage has the loop hand labels over
        """The loss, as `Method.forward`, of views [(B, C, H, W)] with class numbers (B,)."""
        phase = next(i for i, each in enumerate(self.plan.phases) if progress < each.until)
        if phase != self._phase:
            self._phase = phase
            self._let_learn(self.plan.phases[phase].groups)
        return {"cross_entropy": cross_entropy(self.model(views[0]), labels, self.stage.smoothing)}

    def pace(self, progress: float) -> tuple[float, float]:
        """Each phase has the schedule for itself; a step belongs to the phase that it began in."""
        phase = self.plan.phases[self._phase]
        start = self.plan.phases[self._phase - 1].until if self._phase > 0 else 0.0
        return min((progress - start) / (phase.until - start), 1.0), phase.rate

    def rates(self) -> dict[str, float]:
        return {f"model.{name}": rate for names, rate in zip(self.plan.groups, self.plan.rates, strict=False) for name in names}

    def train(self, mode: bool = True) -> "Classification":
        super().train(mode)
        if mode:
            self._settle()
        return self

    def exported(self) -> TimmEncoder:
        return self.model.encoder

    def classifier(self) -> nn.Module:
        return self.model.head

    @property
    def has_begun(self) -> bool:
        """Whether it has taken a step in this process."""
        return self._phase >= 0

    def merge(self) -> None:
        """After the last step: make the encoder a plain one again."""
        merge(self.model.encoder)

    @torch.no_grad()
    def classified(self, images: Tensor) -> Tensor:
        """The class (B,) of each image, uint8 (B, C, S, S)."""
        prepared = prepare(images, self.model.encoder.config.image_size, *MEAN_STD[images.shape[1]])
        classes: Tensor = self.model(prepared).argmax(dim=1)
        return classes

    def _let_learn(self, groups: int) -> None:
        """Let only the first groups of parameters have gradients."""
        learning = {name for names in self.plan.groups[:groups] for name in names}
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in learning)
        if self.training:
            self._settle()

    def _settle(self) -> None:
        """Put what is frozen in eval mode, and what is not in train mode."""
        encoder = self.model.encoder
        learns = any(parameter.requires_grad for parameter in encoder.parameters())
        encoder.train(learns)
        for part in encoder.modules():
            if isinstance(part, (_BatchNorm, GlobalBatchNorm)):
                own = all(parameter.requires_grad for parameter in part.parameters())
                part.train(learns and own and self.stage.batch_norms == "trained")
