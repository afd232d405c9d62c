"""SEED: Self-supervised Distillation for Visual Representation. Fang, Wang, Wang, Zhang, Yang, Liu, 2021.
https://arxiv.org/abs/2101.04731

The student's embedding is as similar to a queue of the teacher's, and to the teacher's of the image itself, as the teacher's own is.

The queue starts with random unit vectors: until it is full they stand for images that are like nothing, and the loss is nearly that of
pointing where the teacher does. What the teacher says of a batch comes in after the step, so that no image is in the queue and beside it.

Differs from the paper:
- The teacher's embedding is its feature, pooled and normalised: a checkpoint has no head, so that the queue is as wide as the teacher.
- The teacher's temperature is the paper's 0.01; the authors' code has 0.0001.
- No small crops. With several views each is distilled, and each has its embedding in the queue.
"""

from torch import Tensor
from torch.nn.functional import normalize

from schemas.distillers import SEED as SEEDConfig
from ssl_tasks.distill.network import Network, Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.losses.relations import similarity_cross_entropy
from ssl_tasks.method import Terms
from ssl_tasks.nn.heads import mlp
from ssl_tasks.nn.queue import Queue


class SEED(Objective):
    """A projection of the student to the teacher's dimension, and the queue."""

    config: SEEDConfig

    def __init__(self, config: SEEDConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        assert setting.teacher
        self.projection = mlp(setting.student.dim, config.hidden, setting.teacher.dim, norm=False, last_bias=True)
        self.queue = Queue(config.queue, setting.teacher.dim)
        self._views: tuple[Tensor, ...] = ()  # the teacher's embeddings at the step that is under way, so no part of the state dict

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        config, taught = self.config, lesson.teacher.pooled
        if self.training:
            self._views = taught.chunk(lesson.globals)
        said = self.projection(student.pooled)
        return {"seed": similarity_cross_entropy(said, taught, self.queue.rows, config.temperature, config.teacher_temperature)}

    def after_step(self, network: Network, progress: float) -> None:
        for embeddings in self._views:
            self.queue.push(normalize(embeddings.to(self.queue.rows.dtype), dim=1))
        self._views = ()
