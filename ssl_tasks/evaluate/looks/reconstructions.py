"""Masked images, and what a masked autoencoder's decoder makes of the visible patches. https://arxiv.org/abs/2111.06377

The decoder is thrown away after training unless the stage keeps its training state, of which the method is made again.
Where the method learned standardised patches, each prediction gets the mean and spread of the true patch back, as in the authors' figures.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from schemas.protocols.looks import Reconstructions
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.masks import random_masks
from ssl_tasks.evaluate.findings import Plate, Skipped
from ssl_tasks.evaluate.looks.shown import called, fed, seen, some, which
from ssl_tasks.evaluate.looks.whole import trained
from ssl_tasks.evaluate.report.pictures import grid
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.losses.masked import EPSILON
from ssl_tasks.methods.masked.mae import MAE
from ssl_tasks.nn.patches import patchify, unpatchify

ACROSS = 2
"""Images a row, each with what is left of it and what is made of that."""


def judge(protocol: Reconstructions, subject: Subject) -> Iterator[Plate]:
    if _method(subject) != "mae":
        raise Skipped("was not trained by mae, and has no decoder that makes pixels")
    method = trained(subject)
    assert isinstance(method, MAE)
    images = fed(subject, some(subject.world, protocol.images))
    masked, made = reconstructed(method, images, subject.world.seed)
    shown = [picture for three in zip(*(seen(subject, each) for each in (images, masked, made)), strict=True) for picture in three]
    rows = [shown[start : start + 3 * ACROSS] for start in range(0, len(shown), 3 * ACROSS)]
    caption = (
        f"{len(images)} {which(subject.world)}: whole, with {method.masked / method.grid**2:.0%} of the patches masked, and as the decoder of {subject.name} "
        "completes them. Visible patches are as they were."
    )
    if method.config.normalise_target:
        caption += " It predicts patches without their mean and spread, which are put back from the image."
    heads = {3 * i + j: text for i in range(min(ACROSS, len(images))) for j, text in enumerate(("image", "masked", "completed"))}
    yield Plate(called("reconstructions", subject), "looks", f"Reconstructions: {subject.name}", caption, lambda theme: grid(rows, heads, theme, together=3))


def meaning(protocol: Reconstructions) -> str:
    return (
        f"{protocol.images} images with as many patches masked as in training, at random, completed by the decoder that a masked autoencoder was trained with."
    )


def _method(subject: Subject) -> str:
    """What a pretrain stage trained it by; empty of any other model."""
    artifact = subject.artifact
    return str(artifact.config["method"]["kind"]) if artifact and artifact.kind == "pretrain" else ""


@torch.inference_mode()
def reconstructed(method: MAE, images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Normalised images (B, C, S, S) with patches masked, which are zero, and with these predicted; both of the same shape."""
    side, channels = method.encoder.patch, images.shape[1]
    counts = torch.full((len(images),), method.masked)
    mask = random_masks(Draw(torch.Generator().manual_seed(seed), len(images)), method.grid, counts).to(images.device)[..., None]
    patches = patchify(images, side)
    predicted = method.predicted(images, mask[..., 0]).float()
    if method.config.normalise_target:
        predicted = predicted * (patches.var(-1, keepdim=True) + EPSILON).sqrt() + patches.mean(-1, keepdim=True)
    return unpatchify(patches * ~mask, side, channels), unpatchify(torch.where(mask, predicted, patches), side, channels)
