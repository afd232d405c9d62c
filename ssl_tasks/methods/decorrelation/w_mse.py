"""Whitening for Self-Supervised Representation Learning (W-MSE). Ermolov, Siarohin, Sangineto, Sebe, 2020.
https://arxiv.org/abs/2007.06346

Embeddings of a batch are whitened, and then the views of an image are pulled together. White embeddings are spread over a sphere by
construction: no negatives, no teacher, and a network that says the same of every image has nothing that could be whitened.

Symbols: z, an embedding; v, a whitened one; a slice, images of the batch whose embeddings are whitened by their own covariance. Small
slices make the covariance random, which `iterations` cuttings of the same batch average out.

Differs from the paper:
- A batch is cut into slices of at least `slice_size` images, as alike as can be; the authors' code asks for a batch that it divides.
- The covariance and its root are in float64.
- Both views pass the network as one batch, so batch norm sees them together, as in the authors' code.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import WMSE as WMSEConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather
from ssl_tasks.losses.whitening import w_mse
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.heads import mlp


class WMSE(Method):
    """Encoder and projector; slices are of the whole batch of all processes."""

    def __init__(self, config: WMSEConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = mlp(encoder.dim, config.hidden, config.dimension, last_bias=True)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """The crops, and each sample's place (B, iterations) in the random orders that the batch is cut in."""
        crops = augment(self.config.views, images, self.encoder.config.image_size, draw)
        return [*crops, torch.stack([draw.permutation() for _ in range(self.config.iterations)], dim=1)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        *crops, places = views
        z = self.projector(self.encoder(torch.cat(crops))).chunk(len(crops))
        try:
            return {"w_mse": w_mse([gather(view) for view in z], self._slices(gather(places)), self.config.epsilon)}
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # torch does not list it
            raise UserError(
                f"w_mse: the embeddings of a batch span fewer than method.dimension {self.config.dimension} dimensions and cannot be whitened: "
                "lower it, or set method.epsilon, such as to 0.01"
            ) from error

    def _slices(self, places: Tensor) -> list[Tensor]:
        """Samples that are whitened together, of every cutting.

        Raises:
            UserError: where the batch holds no whole slice.
        """
        if len(places) < self.config.slice_size:
            raise UserError(
                f"w_mse whitens slices of {self.config.slice_size} images, and a batch has {len(places)}: raise train.batch_size, "
                f"or lower method.slice_size, which must stay above method.dimension {self.config.dimension}"
            )
        count = len(places) // self.config.slice_size
        return [slice for order in places.argsort(dim=0).T for slice in order.tensor_split(count)]

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the embeddings are before they are whitened: see `measures.embedding`."""
        return embedding(self.projector(self.encoder(views[0])))

    def exported(self) -> nn.Module:
        return self.encoder
