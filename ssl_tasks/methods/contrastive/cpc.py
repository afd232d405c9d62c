"""Representation Learning with Contrastive Predictive Coding (CPC). van den Oord, Li, Vinyals, 2018.
https://arxiv.org/abs/1807.03748

An image is cut in overlapping patches, each of which the encoder sees on its own. From what a network makes of a row of patches and
those above, the patches of rows below are predicted, and must be told from the other patches of the image and of other images.

Symbols: z, the encoder's feature of a patch; c, the context: what is known of a place from its row and those above; W_k, the linear map
that predicts z from c, k rows down; N, the patches of the batch.

Differs from the paper:
- The context network is CPC v2's (https://arxiv.org/abs/1905.09272), masked convolutions that see a whole row and those above; the
  paper's PixelCNN does not see what is right of a place in its row.
- All patches of the batch of all processes but the right one are negatives; of which the paper draws them, it does not say.
- Patches are not moved and padded on their own (the paper: 60 of 64 pixels), and all channels see the same.
- The paper's encoder has no batch norm, through which patches could tell of each other: a ViT has none, a ResNet does.
- Crops of the image are resized; the paper cuts 256 of 300 pixels.
- Any optimizer; the paper uses Adam.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import CPC as CPCConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import gather, rank
from ssl_tasks.losses.predictive import cpc
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.context import RowsAbove
from ssl_tasks.nn.encoder import TimmEncoder


class CPC(Method):
    """Encoder of patches, context network, and a linear map W_k for each step down; the encoder is exported, and takes whole images then.

    Raises:
        UserError: where the image cannot be cut in so many patches of whole pixels, or these not in the encoder's own.
    """

    def __init__(self, config: CPCConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.stride = _stride(config.patches, encoder)
        self.context = RowsAbove(encoder.dim, config.hidden, config.depth)
        self.predictors = nn.ModuleDict({str(k): nn.Linear(encoder.dim, encoder.dim, bias=False) for k in range(config.skipped + 1, config.steps + 1)})

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        z = self._latents(views[0])
        c = self.context(z)
        places = (rank() * z.shape[:3].numel() + torch.arange(z.shape[:3].numel(), device=z.device)).view(z.shape[:3])
        everyone = gather(z.flatten(0, 2))
        losses = []
        for k, predict in self.predictors.items():
            predictions, positives = predict(c[:, : -int(k)]), places[:, int(k) :]
            losses.append(cpc(predictions.flatten(0, 2), everyone, positives.flatten()))
        return {"info_nce": torch.stack(losses).mean()}

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the patches' features are: see `measures.embedding`."""
        return embedding(self._latents(views[0]).flatten(0, 2))

    def exported(self) -> nn.Module:
        return self.encoder

    def _latents(self, images: Tensor) -> Tensor:
        """z (B, rows, columns, D) of each patch."""
        tiles = half_overlapping(images, self.stride)
        features: Tensor = self.encoder(tiles.flatten(0, 2))
        return features.view(*tiles.shape[:3], -1)


def half_overlapping(images: Tensor, stride: int) -> Tensor:
    """Patches (B, rows, columns, C, 2 stride, 2 stride) of images (B, C, S, S)."""
    return images.unfold(2, 2 * stride, stride).unfold(3, 2 * stride, stride).permute(0, 2, 3, 1, 4, 5)


def _stride(patches: int, encoder: TimmEncoder) -> int:
    """Pixels from one of so many patches along a side to the next: half of a patch's side."""
    size, own = encoder.config.image_size, encoder.patch if encoder.is_vit else 1
    stride, left = divmod(size, patches + 1)
    if left or 2 * stride % own:
        whole = f" that the encoder's patches of {own} px fill" if encoder.is_vit else ""
        unit = (patches + 1) * own // (2 if own % 2 == 0 else 1)
        raise UserError(
            f"cpc cannot cut {size} px in {patches} half-overlapping patches a side{whole}: "
            f"set encoder.image_size to a multiple of {unit}, such as {unit * max(1, round(size / unit))}, or change method.patches"
        )
    return stride
