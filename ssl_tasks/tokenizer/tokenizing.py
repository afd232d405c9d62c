"""Zero-Shot Text-to-Image Generation, section 2.1 and appendix A: the discrete VAE of DALL-E. Ramesh et al., 2021.
https://arxiv.org/abs/2102.12092

An image is told in words, one a place, and drawn again from them. A word is a choice, which has no gradient: in training a softened draw
stands for it, that grows sharper as the temperature falls.

Symbols: x, an image; q(z | x), the encoder's distribution over K words at each place; tau, the temperature of the Gumbel softmax;
beta, the weight of the KL divergence of q from the uniform distribution.

Loss a pixel value: -ln p(x | z) + beta KL(q || uniform) / (pixel values that a word stands for).

Differs from the paper:
- tau falls along a cosine over `annealing` of the training, and beta rises over `kl_rise` of it: shares, as trainings here may be short.
- The scale of the Laplace distribution is never finer than 8 bits tell; the even background of simple images would draw it to 0.
- The last weights are handed over, not their moving average.
"""

import math

import torch
from torch import Tensor, nn

from schemas.stages import Tokenizer
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import augment, pixels
from ssl_tasks.losses.words import MARGIN, gumbel_softmax, kl_to_uniform, logit_laplace
from ssl_tasks.measures import perplexity
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.dvae import DVAE


class Tokenizing(Method):
    """A discrete VAE in training."""

    def __init__(self, config: Tokenizer, network: DVAE) -> None:
        super().__init__()
        self.config = config
        self.network = network

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image, and uniform numbers (B, N, K) that words are drawn by."""
        shape = self.network.config
        return [*augment(self.config.views, images, shape.image_size, draw), draw.uniforms(shape.grid**2, shape.vocabulary)]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        images, uniform = views
        logits = self.network.logits(images)
        median, log_scale = self.network.drawn(gumbel_softmax(logits, uniform, self.temperature(progress)))
        beta = self.config.kl_weight * min(1.0, progress / self.config.kl_rise)
        values = self.network.config.channels * self.network.config.patch_size**2
        return {"reconstruction": logit_laplace(median, log_scale, pixels(images)), "kl": beta / values * kl_to_uniform(logits)}

    def temperature(self, progress: float) -> float:
        """tau: from the first to the second of the config's along a cosine."""
        first, last = self.config.temperature
        return last + (first - last) * (1 + math.cos(math.pi * min(1.0, progress / self.config.annealing))) / 2

    def exported(self) -> nn.Module:
        return self.network

    def monitored(self, views: list[Tensor]) -> dict[str, float]:
        return measured(self.network, views[0])


def redrawn(network: DVAE, words: Tensor) -> Tensor:
    """The image in pixels in [0, 1] that words (B, N) stand for: the likeliest one."""
    return ((network.drawn(words)[0].float().sigmoid() - MARGIN) / (1 - 2 * MARGIN)).clamp(0, 1)


@torch.no_grad()
def measured(network: DVAE, images: Tensor) -> dict[str, float]:
    """How well words tell normalised images (B, C, S, S).

    `word_perplexity`: as many words, used evenly, would say as much. `words_used`: how many are used at all. `reconstruction_error`:
    root mean square, for pixels in [0, 1].
    """
    words = network.words(images)
    return {
        "word_perplexity": perplexity(words, network.config.vocabulary),
        "words_used": float(torch.bincount(words.flatten()).count_nonzero()),
        "reconstruction_error": (redrawn(network, words) - pixels(images)).square().mean().sqrt().item(),
    }
