"""Unsupervised Representation Learning by Predicting Image Rotations (RotNet). Gidaris, Singh, Komodakis, 2018.
https://arxiv.org/abs/1803.07728

An image is turned by 0, 90, 180 and 270 degrees, and the network tells by which. To do so it must know what is in the image and how
that usually stands; where nothing has an upright, as in pictures from above, there is nothing to learn.

Symbols: g(x, y), image x turned by y quarters; F, encoder and linear layer, with a softmax over the four turns.

Differs from the paper:
- F is any encoder with a linear layer on its pooled features; the paper's are a network in network on CIFAR-10 and AlexNet on ImageNet,
  and what is handed on is a layer in their middle. Here it is the whole encoder, whose last layers may know more of turns than of things.
- Any optimizer and schedule; the paper takes SGD with steps.
- Augmentations are those of `ssl_tasks.data.views`, which see for how they differ.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from schemas.methods import RotNet as RotNetConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.turns import TURNS, quarter_turns, turns_of
from ssl_tasks.data.views import augment
from ssl_tasks.losses.scores import cross_entropy
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder


class RotNet(Method):
    """Encoder and linear layer; all four copies of every image are in the batch."""

    def __init__(self, config: RotNetConfig, encoder: TimmEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, TURNS)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return augment(self.config.views, images, self.encoder.config.image_size, draw)

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        (crops,) = views
        return {"rotation": cross_entropy(self.head(self.encoder(quarter_turns(crops))), turns_of(crops))}

    def monitored(self, views: list[Tensor]) -> Mapping[str, float]:
        """`accuracy`: share of the turns that are told; 1/4 is chance, and near 1 within few steps it is told by something else."""
        (crops,) = views
        told = self.head(self.encoder(quarter_turns(crops))).argmax(dim=1)
        return {"accuracy": (told == turns_of(crops)).float().mean().item()}

    def exported(self) -> nn.Module:
        return self.encoder
