"""CRD: Contrastive Representation Distillation. Tian, Krishnan, Isola, 2020. https://arxiv.org/abs/1910.10699

What the student says of an image is told, by noise-contrastive estimation, which of many of the teacher's embeddings is of the same
image; and the other way round. All embeddings that an image is compared with are of memory banks: a row an image of the training set,
a moving average of what was said of it. Its own row is the positive one, which in the first epoch is random still.

Symbols: K, negatives; N, images; Z, the normaliser, fixed at the first batch as N times the mean of exp(similarity / temperature).

Negatives are drawn evenly from the rows of other images, with replacement, anew at each step. With `other_classes` from those of other
classes: a row's class is known once its image was in a batch, and until then it may be drawn by all.

Differs from the paper and the authors' code (https://github.com/HobbitLong/RepDistiller):
- The code draws from other classes always, of all images' labels beforehand; the teachers of this product may know none.
- Where there are no more than K others, all of them are the negatives.
- Several views of an image share its negatives, and its rows move towards the mean of their embeddings.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from schemas.distillers import CRD as CRDConfig
from schemas.errors import UserError
from ssl_tasks.distill.network import Network, Seen
from ssl_tasks.distill.objective import Lesson, Objective, Setting
from ssl_tasks.distributed import gather, mean
from ssl_tasks.losses.relations import noise_contrastive
from ssl_tasks.method import Terms
from ssl_tasks.nn.bank import Bank

UNKNOWN = -1


class CRD(Objective):
    """A linear layer and a memory bank for each of the two networks.

    Attributes:
        normalisers: Z of the teacher's bank, which the student is compared with, and of the student's; 0 before the first batch.
        classes: class number of each image that was seen, of negatives from other classes; -1 of the others.
    """

    config: CRDConfig
    normalisers: Tensor
    classes: Tensor

    def __init__(self, config: CRDConfig, setting: Setting) -> None:
        """Raises UserError where no image is of another class."""
        super().__init__(config, setting)
        assert setting.teacher
        if config.other_classes and len(setting.classes) < 2:
            raise UserError("crd.other_classes draws from other classes, and all labelled images are of one: leave it out")
        self.images = setting.images
        self.student_layer = nn.Linear(setting.student.dim, config.dim)
        self.teacher_layer = nn.Linear(setting.teacher.dim, config.dim)
        self.student_bank, self.teacher_bank = Bank(setting.images, config.dim), Bank(setting.images, config.dim)
        self.register_buffer("normalisers", torch.zeros(2))
        self.register_buffer("classes", torch.full((setting.images if config.other_classes else 0,), UNKNOWN))
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None  # rows and embeddings of the step that is under way

    def forward(self, student: Seen, lesson: Lesson, progress: float) -> Terms:
        assert lesson.teacher
        ours, theirs = (normalize(z.to(self.normalisers.dtype), dim=1) for z in self._embedded(student, lesson.teacher))
        classes = self._classes(lesson)
        drawn = lesson.of_views(torch.cat([lesson.rows[:, None], self.negatives(lesson, classes)], dim=1))
        logits = [bank.similarities(z, drawn) / self.config.temperature for bank, z in ((self.teacher_bank, ours), (self.student_bank, theirs))]
        now = torch.stack([self.images * mean(each.detach().exp().mean()) for each in logits])
        normalisers = torch.where(self.normalisers > 0, self.normalisers, now.to(self.normalisers.dtype))
        if self.training:
            self.normalisers.copy_(normalisers)
            self.classes.copy_(classes)
            self._seen = lesson.rows, self._of_image(ours, lesson), self._of_image(theirs, lesson)
        names = ("crd_student", "crd_teacher")
        return {name: noise_contrastive(each, z, self.images) for name, each, z in zip(names, logits, normalisers, strict=True)}

    def after_step(self, network: Network, progress: float) -> None:
        if self._seen:
            rows, ours, theirs = self._seen
            self.student_bank.move(rows, ours, self.config.momentum)
            self.teacher_bank.move(rows, theirs, self.config.momentum)
            self._seen = None

    def negatives(self, lesson: Lesson, classes: Tensor) -> Tensor:
        """Rows (B, K) of other images, or of images of other classes.

        All images stand in a ring, those of a class side by side. A negative is so many places behind the last one of the image's class.
        """
        last, alike, order = lesson.rows, torch.ones_like(lesson.rows), None
        if self.config.other_classes:
            known, order = classes.sort(stable=True)
            starts, ends = (torch.searchsorted(known, lesson.labels, right=right) for right in (False, True))
            labelled = lesson.labels != UNKNOWN
            last = torch.where(labelled, ends - 1, order.argsort()[lesson.rows])
            alike = torch.where(labelled, ends - starts, alike)
        others = (self.images - alike)[:, None]
        if self.config.negatives < self.images - 1 or self.config.other_classes:
            drawn = lesson.draw("crd").uniforms(min(self.config.negatives, self.images - 1))
            further = (drawn * others).long().minimum(others - 1)  # a product may be rounded up
        else:
            further = torch.arange(self.images - 1, device=lesson.rows.device)[None]
        places = (last[:, None] + 1 + further) % self.images
        return places if order is None else order[places]

    def _embedded(self, student: Seen, teacher: Seen) -> tuple[Tensor, Tensor]:
        return self.student_layer(student.pooled), self.teacher_layer(teacher.pooled)

    def _of_image(self, embeddings: Tensor, lesson: Lesson) -> Tensor:
        return embeddings.detach().view(lesson.globals, -1, self.config.dim).mean(dim=0)

    def _classes(self, lesson: Lesson) -> Tensor:
        """What is known of all images' classes with this batch, of all processes."""
        if not self.config.other_classes:
            return self.classes
        return self.classes.index_put((gather(lesson.rows),), gather(lesson.labels))
