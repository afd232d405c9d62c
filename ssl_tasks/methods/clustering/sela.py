"""Self-labelling via simultaneous clustering and representation learning (SeLa). Asano, Rupprecht, Vedaldi, 2019.
https://arxiv.org/abs/1911.05371

The network learns to tell the label of an image; from time to time labels are found anew, those that the network tells best among all
that use every label alike. Without that condition one label for all images would be told perfectly. Several heads have labels of their own.

Symbols: P, probabilities that a head gives to each label of each image; lambda, how sharp the optimal transport is.

Differs from the paper:
- Labels come from the features that the network had of each image when it last trained on it, kept in float32, images x dimensions,
  under the heads of now; the paper lets the network look at all images again each time.
- So labels stay random, and used alike, until every image was seen once; the paper finds its first ones by the untrained network.
- A fixed number of Sinkhorn iterations in float32 on logarithms; the paper's is in float64 until the scaling stands still.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ. Any optimizer; the paper uses SGD with steps.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from schemas.methods import SeLa as SeLaConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather
from ssl_tasks.losses.clusters import balanced_labels, tell_label
from ssl_tasks.measures import distribution, embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.kmeans import check_enough
from ssl_tasks.nn.rounds import Rounds, balanced


class SeLa(Method):
    """Encoder and linear heads, the features of every image and its labels, the same on every process.

    Raises:
        UserError: where there are too few images for so many labels.
    """

    images: Tensor
    labels: Tensor
    features: Tensor
    updated: Tensor

    def __init__(self, config: SeLaConfig, encoder: TimmEncoder, images: int) -> None:
        super().__init__()
        check_enough(images, config.clusters, "method.clusters")
        self.config = config
        self.encoder = encoder
        self.heads = nn.ModuleList([nn.Linear(encoder.dim, config.clusters) for _ in range(config.heads)])
        self.rounds = Rounds(images)
        self.register_buffer("images", torch.tensor(images))
        self.register_buffer("labels", balanced(config.heads, images, config.clusters))
        self.register_buffer("features", torch.randn(images, encoder.dim))
        self.register_buffer("updated", torch.zeros((), dtype=torch.long))

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return [*augment(self.config.views, images, self.encoder.config.image_size, draw), draw.rows]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        *crops, images = views
        if self.training:
            self._find_labels(progress)
        h = self.encoder(torch.cat(crops))
        if self.training:
            self.features[gather(images)] = gather(h.detach()[: len(images)].to(self.features.dtype))
            self.rounds.count(len(images))
        losses = [tell_label(head(h), labels.repeat(len(crops))) for head, labels in zip(self.heads, self.labels[:, images], strict=True)]
        return {"sela": torch.stack(losses).mean()}

    def after_step(self, progress: float) -> None:
        self.rounds.ended()

    def exported(self) -> nn.Module:
        return self.encoder

    @torch.no_grad()
    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the features are, see `measures.embedding`, and `prototypes_used`, of the first head: see `measures.distribution`."""
        h = self.encoder(views[0])
        return {**embedding(h), "prototypes_used": distribution(self.heads[0](h).softmax(dim=1))["prototypes_used"]}

    @torch.no_grad()
    def _find_labels(self, progress: float) -> None:
        """Labels of now, where it is time: once all images were seen, whenever (i / (updates - 1))^2 of the training is reached."""
        due = int((self.config.updates - 1) * progress**0.5)
        if due <= int(self.updated) or not int(self.rounds.done):
            return
        self.updated.fill_(due)
        with torch.autocast(self.features.device.type, enabled=False):
            for labels, head in zip(self.labels, self.heads, strict=True):
                logits = linear(self.features, head.weight, head.bias)  # type: ignore[arg-type]  # a Linear's
                labels.copy_(balanced_labels(logits, self.config.sharpness, self.config.sinkhorn_iterations))
