"""BEiT: BERT Pre-Training of Image Transformers. Bao, Dong, Piao, Wei, 2021.
https://arxiv.org/abs/2106.08254

A tokenizer, trained before, tells an image in words, one a patch. Some blocks of patches are masked, and from the others the encoder
tells the words of those that are missing: it learns what is there and not each pixel of it.

Symbols: z, the word that the tokenizer finds likeliest for a patch, one of K; M, the masked patches; p(z | x without M), the softmax of a
linear layer over the encoder's last block.

Loss: the mean over M of -ln p(z | x without M). One that knows nothing stands at ln K.

Differs from the paper:
- The tokenizer is a discrete VAE that is trained on the pipeline's own images, where the paper takes DALL-E's, of 250 million others.
- It sees the encoder's crop itself, in words of the encoder's patches; the paper resizes the crop a second time, 112 px against 224.
- Words are of the crop before its colours are changed, where a config changes them.
- Every image has the same number of masked patches: blocks that would mask too many are left out, and single patches make up the rest.
- The encoder is timm's: positions are learned or rotary, where the paper's blocks share relative ones, and its weights start as timm starts them.
- An encoder that pools by average or attention keeps the norm or attention of its pooling as it started: no patch's word uses it.
"""

import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.methods import BEiT as BEiTConfig
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import block_masks
from ssl_tasks.data.views import augment
from ssl_tasks.losses.words import told_words
from ssl_tasks.measures import perplexity
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.dvae import DVAE
from ssl_tasks.nn.encoder import TimmEncoder

COLOURS = {"jitter": 0.0, "grey": 0.0, "blur": 0.0, "solarize": 0.0, "noise": 0.0, "text": 0.0, "shape": 0.0, "compression": 0.0}
"""Of the views, what changes a crop and is left out of the tokenizer's."""


class BEiT(Method):
    """Encoder and head; the encoder is what is exported. The tokenizer is never trained.

    Attributes:
        masked: patches of an image that are masked, the same number in each.

    Raises:
        UserError: where the tokenizer's words are not those of the encoder's patches, or nothing can be masked.
    """

    def __init__(self, config: BEiTConfig, encoder: TimmEncoder, tokenizer: DVAE) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        size = encoder.config.image_size
        self.grid = encoder.grid(size)
        _check(config, encoder, tokenizer)
        self.masked = min(max(round(config.mask_ratio * self.grid**2), 1), self.grid**2 - 1)
        encoder.patches_only()
        self.tokenizer = tokenizer.requires_grad_(False)
        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.width))
        self.head = nn.Linear(encoder.width, tokenizer.config.vocabulary)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        """One crop (B, C, S, S) of each image, which of its patches are masked (B, N), and the crop in its own colours (B, C, S, S)."""
        size, before = self.encoder.config.image_size, draw.generator.get_state()
        crops = augment(self.config.views, images, size, draw)
        after = draw.generator.get_state()
        plain = self.config.views.model_copy(update=COLOURS)
        draw.generator.set_state(before)  # box and flip are drawn first, and so are the same
        own = augment(plain, images, size, draw) if plain != self.config.views else crops
        draw.generator.set_state(after)
        counts = torch.full((len(images),), self.masked, device=images.device)
        return [*crops, block_masks(draw, self.grid, counts), *own]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        return {"cross_entropy": told_words(*self.told(views))}

    def told(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        """At masked patches the logits of p(z | x without M), (B, M, K), and z, (B, M)."""
        images, mask, own = views
        places = mask.int().argsort(dim=1, descending=True, stable=True)[:, : self.masked]
        patches = self.encoder.tokens(images, mask, self.mask_token).patches
        logits: Tensor = self.head(patches.gather(1, places[..., None].expand(-1, -1, patches.shape[-1])))
        return logits, self.tokenizer.words(own).gather(1, places)

    def exported(self) -> nn.Module:
        return self.encoder

    def monitored(self, views: list[Tensor]) -> dict[str, float]:
        """`words_told`: share of the masked patches whose word is told rightly. `word_perplexity`: of the tokenizer's words."""
        logits, words = self.told(views)
        right = (logits.argmax(dim=-1) == words).float().mean().item()
        return {"words_told": right, "word_perplexity": perplexity(words, self.tokenizer.config.vocabulary)}


def _check(config: BEiTConfig, encoder: TimmEncoder, tokenizer: DVAE) -> None:
    here = {"image_size": encoder.config.image_size, "patch_size": encoder.patch, "channels": encoder.config.channels}
    for name, value in here.items():
        if (other := getattr(tokenizer.config, name)) != value:
            raise UserError(f"beit: tokenizer '{config.tokenizer}' has {name} {other}, and the encoder's is {value}: it must tell one word a patch")
    if here["image_size"] < 2 * encoder.patch:
        raise UserError(f"beit: encoder.image_size {here['image_size']} is a single patch, of which nothing can be masked: take a smaller encoder.patch_size")
