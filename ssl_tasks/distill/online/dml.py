"""Deep Mutual Learning. Zhang, Xiang, Hospedales, Lu, 2018. https://arxiv.org/abs/1706.00384

Every student learns from labels, and from what the other students that learn so say of the same views:

loss of student k = cross-entropy + peers * mean over the other students j of KL(p_j || p_k), at T = 1.

Students are updated one after the other, and each looks at the others as they are at that moment, as in algorithm 1. So each step costs
a forward of every peer. Each starts from random weights of its own: peers with the same ones have nothing to tell each other.

Differs from the paper: peers answer in eval mode, batch norms with their running statistics and nothing dropped. So that a look changes
nothing of a peer and takes no random number from it, and one that has ended early, or learns at another image size, can go on answering.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from schemas.distillers import DML as DMLConfig
from ssl_tasks.data.views import resized
from ssl_tasks.distill.class_scores import labelled, logits
from ssl_tasks.distill.network import Network, Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.distributed import mean
from ssl_tasks.losses.scores import cross_entropy, divergence
from ssl_tasks.method import Terms
from ssl_tasks.monitors import evaluating


class DML(Objective):
    """Labels, and peers that learn at the same time."""

    config: DMLConfig

    def __init__(self, config: DMLConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self._peers: list[Network] = []  # a list registers no module: they are not this student's to train or to keep

    def meet(self, peers: Mapping[str, Network]) -> None:
        self._peers = list(peers.values())

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        labels, count = labelled(lesson)
        return {
            "dml_labels": cross_entropy(logits(student), labels, count=count),
            "dml_peers": self.config.peers * self._divergence(logits(student), lesson),
        }

    def _divergence(self, own: Tensor, lesson: Lesson) -> Tensor:
        """From the peers, a mean over them; one that has no place on the device, or weights that are not finite on any process, is left out."""
        total, peers = own.new_zeros(()), own.new_zeros(())
        for peer in self._peers:
            if next(peer.parameters()).device != own.device:
                continue
            said = _said(peer, lesson)
            sound = mean(said.isfinite().all().to(own.dtype)) == 1
            total = total + sound * divergence(own, torch.where(sound, said, 0.0))
            peers = peers + sound
        return total / peers.clamp(min=1)


@torch.no_grad()
def _said(peer: Network, lesson: Lesson) -> Tensor:
    """A peer's logits of the global views, as it is now."""
    with evaluating(peer):
        seen: Seen = peer([resized(view, peer.encoder.config.image_size) for view in lesson.views[: lesson.globals]])
    return logits(seen)
