"""Which backbone: any timm model, with the few arguments that a small or unusual image needs."""

import re
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from schemas.spec import Spec, Unfit

Architecture = Literal["vit", "swin", "convnextv2"]
"""Kinds of encoder whose inside a method must know, to mask a part of it."""
EXAMPLES: dict[Architecture, str] = {
    "vit": "a ViT, such as vit_small_patch16_224",
    "swin": "a Swin, such as swin_tiny_patch4_window7_224",
    "convnextv2": "a ConvNeXt V2, such as convnextv2_atto",
}


class Encoder(Spec):
    """A timm backbone without its classifier. https://huggingface.co/docs/timm"""

    name: str = Field(description="timm model name, such as resnet18 or vit_small_patch16_224")
    image_size: PositiveInt = Field(224, description="side of the square image that it is fed, in pixels")
    channels: PositiveInt = Field(3, description="input channels: 3 reads images as RGB, 1 as grey")
    sees: Literal["colours", "lightness"] = Field(
        "colours", description="lightness: RGB images lose their colours as they come in, as for an encoder that learned to tell them"
    )
    patch_size: PositiveInt | None = Field(None, description="ViT patch side; the model's own where not given")
    depth: PositiveInt | None = Field(None, description="ViT blocks; the model's own where not given")
    width: PositiveInt | None = Field(None, description="ViT embedding dimension; the model's own where not given")
    heads: PositiveInt | None = Field(None, description="ViT attention heads; the model's own where not given")
    stem: Literal["imagenet", "cifar", "half"] = Field(
        "imagenet", description="of a ResNet for small images, with a 3x3 first convolution and no max-pool; cifar: stride 1, half: stride 2"
    )
    pooling: Literal["gem"] | None = Field(
        None, description="gem: generalised mean (p = 3) of patches or places, a ViT's beside its CLS token; the model's own pooling where not given"
    )
    neck: PositiveInt | None = Field(None, description="width of a linear layer, batch norm and ReLU after pooling; none where not given")
    head: PositiveInt | None = Field(
        None, description="width of a linear layer after these, its output brought to length 1: a descriptor; none where not given"
    )
    whitening: PositiveInt | None = Field(
        None, description="dimensions that a `whiten` stage left, its output brought to length 1; only in a checkpoint, as it is fitted and not trained"
    )
    options: dict[str, Any] = Field({}, description="further arguments of timm.create_model")

    @property
    def is_vit(self) -> bool:
        """Whether the name is that of a vision transformer whose patches can be masked and dropped.

        Those with relative positions (BEiT 1 and 2, relpos), of several stages (Swin) or behind a ConvNet (vit_..._r50) are not.
        """
        return bool(re.match(r"(?!\w*relpos)((vit|deit3?|eva(02)?|beit3|aimv2)_\w*patch\d+|flexivit_|test_vit)", self.name))

    @property
    def architecture(self) -> Architecture | None:
        """Which of those whose inside is known, by its name; None for any other."""
        if self.is_vit:
            return "vit"
        if self.name.startswith("swin_"):
            return "swin"
        return "convnextv2" if self.name.startswith("convnextv2_") else None

    @property
    def patch(self) -> int | None:
        """The patch side that applies, read from the name where not given; None for a model without patches."""
        named = re.search(r"patch(\d+)", self.name)
        return self.patch_size or (int(named[1]) if named else None)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.patch and self.image_size % self.patch:
            raise Unfit(f"image_size {self.image_size} is not a multiple of patch size {self.patch}", "image_size", "patch_size", "name")
        if self.sees == "lightness" and self.channels != 3:
            raise Unfit(f"sees lightness is for RGB images, and channels {self.channels} reads others: leave it out", "sees", "channels")
        if self.options.get("patch_drop_rate"):
            raise Unfit("patch_drop_rate is not for here: methods mask and drop patches themselves; leave it out", "options.patch_drop_rate")
        if self.width and self.heads and self.width % self.heads:
            raise Unfit(f"width {self.width} is not a multiple of heads {self.heads}", "width", "heads")
        return self
