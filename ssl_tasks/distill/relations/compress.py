"""CompRess: Self-Supervised Learning by Compressing Representations. Abbasi Koohpayegani, Tejankar, Pirsiavash, 2020.
https://arxiv.org/abs/2010.14713

An image is as similar to anchors, which are earlier images, as the teacher finds it. With two queues each network compares the image
with what itself says of the anchors, so that dimensions may differ; the student's are said by its moving average, slow enough for old
ones and new ones to compare. With one queue both are compared with the teacher's, the student's embedding after a projection.

Anchors come in after the step: an image is never its own anchor. Queues start with random unit vectors, which teach nothing until
images have taken their places.

Differs from the paper:
- With one queue the projection is a linear layer, and there is none where both have the same dimension.
- The moving average's batch norms work by the batch, as the student's do. With several views each is distilled, and each is an anchor.
"""

from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.distillers import CompRess as CompRessConfig
from ssl_tasks.data.views import resized
from ssl_tasks.distill.network import Network, Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.losses.relations import similarity_divergence
from ssl_tasks.method import Terms
from ssl_tasks.nn.ema import Teacher
from ssl_tasks.nn.queue import Queue


class CompRess(Objective):
    """The teacher's queue, and with two the student's and the moving average that fills it, with one the projection."""

    config: CompRessConfig

    def __init__(self, config: CompRessConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        assert setting.teacher
        own, theirs = setting.student.dim, setting.teacher.dim
        two = config.queues == 2
        self._size = setting.student.image_size
        self.key_network = Teacher(setting.network, batch_statistics=True) if two else None
        self.own_queue = Queue(config.queue, own) if two else None
        self.projection = nn.Identity() if two or own == theirs else nn.Linear(own, theirs)
        self.queue = Queue(config.queue, theirs)
        self._anchors: list[tuple[Queue, Tensor]] = []  # of the step that is under way, so no part of the state dict

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        taught, anchors = lesson.teacher.pooled, self.own_queue or self.queue
        if self.training:
            self._anchors = [(self.queue, view) for view in taught.chunk(lesson.globals)]
            if self.key_network and self.own_queue:
                keys: Seen = self.key_network([resized(view, self._size) for view in lesson.views[: lesson.globals]])
                self._anchors += [(self.own_queue, view) for view in keys.pooled.chunk(lesson.globals)]
        said = self.projection(student.pooled)
        return {"compress": similarity_divergence(said, anchors.rows, taught, self.queue.rows, self.config.temperature)}

    def after_step(self, network: Network, progress: float) -> None:
        """Let the anchors in, and move the average."""
        for queue, anchors in self._anchors:
            queue.push(normalize(anchors.to(queue.rows.dtype), dim=1))
        self._anchors = []
        if self.key_network:
            self.key_network.follow(network, self.config.momentum)
