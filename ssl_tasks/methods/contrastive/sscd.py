"""A Self-Supervised Descriptor for Image Copy Detection. Pizzi, Roy, Ravindra, Goyal, Douze, 2022.
https://arxiv.org/abs/2202.10261

SimCLR for copies: views are edited as copies are, and some of them are mixed from two images and count as copies of both. An entropy
term, KoLeo, pushes each descriptor away from the nearest one of other content, so that one threshold on distances fits all images.

Symbols: z, the descriptor: features pooled by GeM, a linear layer, length 1; tau, the temperature; lambda, the weight of KoLeo. The
head is kept: the encoder that is exported gives descriptors. Whitening is fitted afterwards, by a `whiten` stage.

Differs from the paper:
- The loss is that of the authors' code (https://github.com/facebookresearch/sscd-copy-detection): a positive's own term is in its
  denominator, other positives are not.
- GeM's exponent is fixed at 3 and the head is one linear layer, as in the code. A ViT's patches are pooled so, and its CLS token,
  where it has one, is put beside them: the paper has ConvNets only.
- A view is mixed with the same view of the next image of the batch, over all devices; in the code with one of the same device.
- lambda is 10, from which its authors advise to start: their 30 needs residual branches that begin at zero.
- Overlaid text is a pattern of blocks and not letters, shapes stand in for emoji, and rotation comes after the crop: see
  `ssl_tasks.data.marks`. Crops are as in `ssl_tasks.data.views`.
- Any optimizer; the paper uses LARS.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from schemas.methods import SSCD as SSCDConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.mixing import contents, mixed, mixes, sharing
from ssl_tasks.data.views import augment
from ssl_tasks.distributed import following, gather, rank, world_size
from ssl_tasks.losses.contrastive import info_nce
from ssl_tasks.losses.koleo import koleo
from ssl_tasks.measures import embedding
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder


class SSCD(Method):
    """An encoder with GeM and a linear head, trained with InfoNCE over mixed positives and KoLeo over the whole batch of all processes.

    Raises:
        UserError: where the encoder has a neck or head behind another pooling.
    """

    def __init__(self, config: SSCDConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        encoder.add_head(config.output)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """Both views, then how each is mixed with the next image of the batch (B, 5)."""
        views = augment(self.config.views, images, self.encoder.config.image_size, draw)
        return [*views, *(mixes(draw, self.config.mix) for _ in views)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        first, second, *plans = views
        z = self.encoder(torch.cat([mixed(view, following(view), plan) for view, plan in zip((first, second), plans, strict=True)]))
        batch, everyone = len(first), len(first) * world_size()
        row = rank() * batch + torch.arange(batch, device=z.device)
        shown = torch.cat([contents(plan, row, (row + 1) % everyone) for plan in plans])
        itself = torch.cat([row + rank() * batch, row + (rank() + 1) * batch])  # each process has its two views one after the other
        all_z, matches = gather(z), sharing(shown, gather(shown))
        return {
            "info_nce": info_nce(z, all_z, matches, itself, self.config.temperature),
            "koleo": self.config.entropy * koleo(z, all_z, ~matches),
        }

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """How alive the descriptors are: see `measures.embedding`."""
        return embedding(self.encoder(views[0]))

    def exported(self) -> nn.Module:
        return self.encoder
