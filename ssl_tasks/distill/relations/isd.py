"""ISD: Self-Supervised Learning by Iterative Similarity Distillation. Tejankar, Abbasi Koohpayegani, Pillai, Favaro, Pirsiavash, 2021.
https://arxiv.org/abs/2012.09259

No teacher comes before the student: it is its own moving average, which sees another view of the image. What the student predicts is
as similar to a queue of the average's embeddings of other images as the average finds its view, so that unlike MoCo's negatives those
that are like the image are not pushed away.

This is the paper's ResNet-18: features are compared as they are, and a predictor stands on the student's side. Keys come into the queue
after the step, and it starts with random unit vectors.

Differs from the paper:
- No shuffled batch norm: the average's batch norms see the whole batch of all processes.
- Every view is once the student's and once the average's, which the view after it is compared with; the paper has one direction.
- Both see views of one distribution; the paper's stronger variant shows the average weaker ones.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from schemas.distillers import ISD as ISDConfig
from ssl_tasks.data.views import resized
from ssl_tasks.distill.network import Network, Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.losses.relations import similarity_divergence
from ssl_tasks.method import Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.queue import Queue


class ISD(Objective):
    """The predictor, the student's moving average, and the queue of what that says."""

    config: ISDConfig

    def __init__(self, config: ISDConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        dim, self._size = setting.student.dim, setting.student.image_size
        self.predictor = mlp(dim, config.hidden, dim, last_bias=True)
        self.key_network = Teacher(setting.network, batch_statistics=True)
        self.queue = Queue(config.queue, dim)
        self._views: tuple[Tensor, ...] = ()  # keys of the step that is under way, so no part of the state dict

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        keys: Seen = self.key_network([resized(view, self._size) for view in lesson.views[: lesson.globals]])
        views = keys.pooled.chunk(lesson.globals)
        if self.training:
            self._views = views
        of_next, rows = torch.cat([*views[1:], views[0]]), self.queue.rows
        return {"isd": similarity_divergence(self.predictor(student.pooled), rows, of_next, rows, self.config.temperature)}

    def after_step(self, network: Network, progress: float) -> None:
        """Let the keys in, and move the average."""
        for keys in self._views:
            self.queue.push(normalize(keys.to(self.queue.rows.dtype), dim=1))
        self._views = ()
        self.key_network.follow(network, self.config.momentum)
