"""Where the last block's heads look: attention from the CLS token to the patches, a map a head. https://arxiv.org/abs/2104.14294

The weights are softmax(q k / sqrt(d)) of the last block, computed again from the tokens that go into it, rotary positions included.
Differs from the paper: the figure shows all heads of an image and no threshold on the attention's mass.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.protocols.looks import Attention
from ssl_tasks.evaluate.findings import Plate, Skipped
from ssl_tasks.evaluate.looks.shown import called, fed, finite, seen, some, which
from ssl_tasks.evaluate.report.pictures import Picture, coloured, grid
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.nn import vit
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.packed import is_known, last_attention

ACROSS = 6
"""Maps a row; more heads take more rows, and of few heads several images stand side by side."""


def judge(protocol: Attention, subject: Subject) -> Iterator[Plate]:
    images = fed(subject, some(subject.world, protocol.images))
    maps = finite(cls_attention(subject.encoder, images).cpu().numpy())
    heads = maps.shape[1]
    width, across = min(heads, ACROSS) + 1, max(1, (ACROSS + 1) // (heads + 1))
    blocks = [_rows(picture, own) for picture, own in zip(seen(subject, images), maps, strict=True)]
    beside = [blocks[start : start + across] for start in range(0, len(blocks), across)]
    rows = [[cell for row in own for cell in row] for several in beside for own in zip(*several, strict=True)]
    columns = {number * width + at: text for number in range(len(beside[0])) for at, text in ((0, "image"), (1, "heads"))}
    caption = (
        f"{len(images)} {which(subject.world)} as {subject.name} sees them, and for each of the {heads} heads of its last block how much the CLS token reads "
        "from each patch: bright is much. Each map is scaled to its own largest value; CLS token and registers are left out."
    )
    columns = {
        block * width + column: text for block in range(min(across, len(blocks))) for column, text in enumerate(("image", "heads" if heads > 1 else "head"))
    }
    yield Plate(called("attention", subject), "looks", f"Attention: {subject.name}", caption, lambda theme: grid(rows, columns, theme, together=width))


def meaning(protocol: Attention) -> str:
    return f"The attention of the last block's heads from the CLS token to the patches, for {protocol.images} images that are the same for all models."


@torch.inference_mode()
def cls_attention(encoder: TimmEncoder, images: Tensor) -> Tensor:
    """What the CLS token reads from each patch in the last block, (B, heads, rows, columns), of normalised images (B, C, S, S).

    Of each head's weights over all tokens these are the patches' own: their sum is one less what CLS token and registers get.

    Raises:
        Skipped: where there is no CLS token, or blocks are of an unknown kind.
    """
    backbone = encoder.backbone
    if getattr(backbone, "cls_token", None) is None:
        raise Skipped("has no CLS token whose attention could be shown")
    if not is_known(backbone.blocks[-1]):
        raise Skipped(f"has blocks whose attention cannot be read ('{encoder.config.name}')")
    weights = last_attention(backbone, vit.embed(backbone, images))[:, :, 0, encoder.prefix_tokens :]
    side = encoder.grid(images.shape[-1])
    return weights.view(*weights.shape[:2], side, side)


def _rows(picture: Picture, maps: NDArray[np.floating]) -> list[list[Picture | None]]:
    """The picture and its maps, as many rows as they take."""
    drawn = [coloured(own / max(own.max(), 1e-12)) for own in maps]
    starts = range(0, len(drawn), ACROSS)
    blank = [None] * (-len(drawn) % ACROSS if len(drawn) > ACROSS else 0)
    return [[picture if start == 0 else None, *[*drawn, *blank][start : start + ACROSS]] for start in starts]
