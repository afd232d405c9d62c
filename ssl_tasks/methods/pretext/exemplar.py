"""Discriminative Unsupervised Feature Learning with Exemplar Convolutional Neural Networks. Dosovitskiy, Fischer, Springenberg, Riedmiller,
Brox, 2014. https://arxiv.org/abs/1406.6909

Every image is a class of its own, whose members are that image after strong random changes; the network is trained as a classifier. What
it learns is what such changes leave of an image.

Symbols: T, a random change; i, the number of an image, its class; f, encoder and linear layer with a softmax over all images.

Differs from the paper:
- Its classes are 32 x 32 patches cut where the gradient is large, of which it takes 8,000 to 32,000; here they are the images, all of them.
  Beyond some number more classes made its features worse, as ever more of them look alike: train on a subset then, such as a curated one.
- Changes are drawn anew in each epoch, not once beforehand. Where the paper moves and scales a patch in its image, the crop covers a quarter
  to all of its; contrast changes by brightness, contrast and saturation, not along principal components and by powers.
- The encoder is any, with a linear layer on its pooled features; the paper's has a hidden layer with dropout, and its features are pooled
  of all layers.
"""

import torch
from torch import Tensor, nn

from schemas.methods import ExemplarCNN as ExemplarConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment
from ssl_tasks.losses.scores import cross_entropy
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder


class ExemplarCNN(Method):
    """Encoder and linear layer with an output an image of the training set."""

    def __init__(self, config: ExemplarConfig, encoder: TimmEncoder, images: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.register_buffer("images", torch.tensor(images))
        self.head = nn.Linear(encoder.dim, images)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One changed crop of each image, and i (B,)."""
        return [*augment(self.config.views, images, self.encoder.config.image_size, draw), draw.rows]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        crops, image = views
        return {"exemplar": cross_entropy(self.head(self.encoder(crops)), image)}

    def exported(self) -> nn.Module:
        return self.encoder
