"""Feature maps of encoders that are no plain ViTs, of images of which a part is masked inside the encoder."""

from typing import Any

import torch
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor

from ssl_tasks.nn.sparse import sparse_features


def features(backbone: Any, images: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
    """What a timm model says of each place, in the layout that its `forward_features` has.

    Args:
        images: (B, C, H, W).
        mask: (B, N), true where masked; nothing is where None. Of a Swin, patches that are replaced by `mask_token` (D,) after the patch
            embedding; of a ConvNeXt, places of the last stage that stay empty through all of it.
    """
    found: Tensor
    if mask is None:
        found = backbone.forward_features(images)
    elif isinstance(backbone, ConvNeXt):
        found = sparse_features(backbone, images, mask)
    else:
        assert isinstance(backbone, SwinTransformer), "what is inside this encoder is not known"
        assert mask_token is not None
        patches = backbone.patch_embed(images)
        patches = torch.where(mask.view(*patches.shape[:-1], 1), mask_token.to(patches.dtype), patches)
        found = backbone.norm(backbone.layers(patches))
    return found


def stride(backbone: Any) -> int:
    """Pixels from one place of the last feature map to the next."""
    return int(backbone.feature_info[-1]["reduction"])
