"""Knowledge Distillation by On-the-Fly Native Ensemble (ONE). Lan, Zhu, Gong, 2018. https://arxiv.org/abs/1806.04606

Branches share the student's trunk; each has a last stage and a classifier of its own. A gate, a small network over the trunk's pooled
features, says how much each branch counts for an image; their logits so weighed are the teacher, which learns from labels too:

loss = sum of the branches' cross-entropies + the teacher's cross-entropy + w sum of T^2 KL(teacher || branch).

w = exp(-5 (1 - t)^2) over the ramp-up, 1 after it. The first branch is the student itself; the others are dropped at the end.

Differs from the paper:
- The split is known of ResNets and ConvNeXts, before the last stage, as there, and also of plain ViTs, before the last third of the blocks.
- w rises with every step, not with every epoch.
- The labels' terms are of the images that have a label, the divergence of all.
"""

import math

import torch
from torch import Tensor, nn

from schemas.distillers import ONE as ONEConfig
from ssl_tasks.distill.class_scores import labelled, logits
from ssl_tasks.distill.network import Network, Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.losses.scores import cross_entropy, divergence
from ssl_tasks.method import Terms
from ssl_tasks.monitors import evaluating
from ssl_tasks.nn.branches import Trunk, branch, mean_of_places
from ssl_tasks.nn.classifier import classifier_head


class ONE(Objective):
    """The student among branches that are taught by their own ensemble."""

    config: ONEConfig

    def __init__(self, config: ONEConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        encoder, classes = setting.network.encoder, len(setting.classes)
        self._trunk = Trunk(setting.network, encoder)
        others = [branch(encoder) for _ in range(config.branches - 1)]
        self.others = nn.ModuleList(nn.Sequential(other, classifier_head(other.dim, classes)) for other in others)
        width = mean_of_places(self._say_of_black(setting.network)).shape[1]
        self.gate = nn.Sequential(nn.Linear(width, config.branches, bias=False), nn.BatchNorm1d(config.branches), nn.ReLU())

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        labels, count = labelled(lesson)
        said = self._trunk.take(len(logits(student)))
        branches = [logits(student), *(other(said) for other in self.others)]
        shares = self.gate(mean_of_places(said)).softmax(dim=1)
        teacher = (shares[:, :, None] * torch.stack(branches, dim=1)).sum(dim=1)
        taught = [divergence(one, teacher.detach(), self.config.temperature) for one in branches]
        return {
            "one_branches": torch.stack([cross_entropy(one, labels, count=count) for one in branches]).sum(),
            "one_ensemble": cross_entropy(teacher, labels, count=count),
            "one_distillation": self._rise(progress) * torch.stack(taught).sum(),
        }

    def _rise(self, progress: float) -> float:
        left = max(0.0, 1 - progress / self.config.rampup) if self.config.rampup else 0.0
        return math.exp(-5 * left**2)

    @torch.no_grad()
    def _say_of_black(self, network: Network) -> Tensor:
        """What the trunk says of black images, to learn its width."""
        config = network.encoder.config
        with evaluating(network):
            network([torch.zeros(2, config.channels, config.image_size, config.image_size)])
        return self._trunk.take(2)
