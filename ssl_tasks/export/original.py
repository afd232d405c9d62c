"""What is handed out: a checkpoint as one function from images to named outputs. Every format is held against it.

Shapes: B images of C channels, D numbers a feature vector, N patches or places.
"""

import copy

import torch
from torch import Tensor, nn

from schemas.artifacts import Checkpoint
from ssl_tasks.checkpoints import load_classifier, load_encoder

STEP = 32
"""Pixels by which an image of a ConvNet is made larger where another size is tried."""


class Original(nn.Module):
    """A checkpoint's encoder, with its head where it is a classifier, in eval mode on the CPU.

    Attributes:
        artifact: what is known of its making.
        outputs: names of what comes out, in their order: `features` (B, D), `logits` (B, classes) of a classifier, and `patches`
            (B, N, width), one feature a patch or place, row by row, where the network has such.
        sizes: heights and widths that formats are tried on: the encoder's own, and where it takes others, a larger one and one that is no square.

    Raises:
        UserError: where the weights are damaged.
    """

    def __init__(self, artifact: Checkpoint) -> None:
        super().__init__()
        classifier = load_classifier(artifact)
        self.artifact = artifact
        self.encoder = classifier.encoder if classifier else load_encoder(artifact)
        self.head = classifier.head if classifier else None
        with torch.inference_mode():
            seen = self.encoder.backbone.forward_features(self.example(1))
        self._has_places = isinstance(seen, Tensor) and seen.ndim in (3, 4)
        self.outputs = ("features", *["logits"] * bool(self.head), *["patches"] * self._has_places)
        self.eval().requires_grad_(False)
        own, step = artifact.encoder.image_size, artifact.encoder.patch or STEP
        self.sizes = [(own, own), *(size for size in ((own + step, own + step), (own + step, own + 2 * step)) if self._takes(size))]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """What `outputs` names, of normalised images (B, C, H, W)."""
        if self._has_places:
            pooled, *places = self.encoder.tokens(images)
        else:
            pooled, places = self.encoder(images), []
        return (pooled, *([self.head(pooled)] if self.head else []), *places)

    def example(self, count: int, size: tuple[int, int] | None = None) -> Tensor:
        """Normalised images (count, C, H, W) of noise, the same at each call; of the encoder's own size where none is given."""
        config = self.artifact.encoder
        height, width = size or (config.image_size, config.image_size)
        return torch.randn(count, config.channels, height, width, generator=torch.Generator().manual_seed(count))

    def _takes(self, size: tuple[int, int]) -> bool:
        try:
            with torch.inference_mode():
                self(self.example(1, size))
        except Exception:  # each timm model has its own way to say so
            return False
        return True

    def traceable(self) -> "Original":
        """A twin whose blocks are run as timm has them: their packing for training is nothing that an exporter can follow."""
        twin = copy.deepcopy(self)
        twin.encoder.run_whole_blocks()
        return twin
