"""Which method should I choose? From how many images there are, the encoder, and what it is for.

Advice is read off the published tables (`leaderboard.py`): those nearest in number of images, of the same kind of encoder and task. What
no table tells is said as a rule, with its source; a rule that only holds here is measured by `benchmarks/learning.py`.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from schemas.encoders import Encoder
from schemas.methods import Method
from schemas.methods.leaderboard import TABLES, Table
from schemas.shapes import kinds

Use = Literal["dense", "global", "both"]
BEST = 3
"""Methods that are named of a table."""
FEW, MANY = 100_000, 10_000_000
"""Images below which masked and patch-wise methods learn little from nothing, and from which the largest recipes are made."""
CONTEST = 2
"""A table with fewer methods compares nothing: it only says that one works."""

_COOKBOOK = "A Cookbook of Self-Supervised Learning, https://arxiv.org/abs/2304.12210"


class Choice(NamedTuple):
    """A method, or a step besides one, with the reason and where that is from."""

    what: str
    why: str
    source: str


def advise(images: int, encoder: Encoder, task: Use) -> list[Choice]:
    """What to train, best first, then what to mind; never empty.

    Args:
        images: how many there are to train on, without labels.
        task: whether places, whole images or both are to be told apart by the features.
    """
    return [*_first(images, encoder, task), *_by_tables(images, encoder, task), *_made_for(encoder, task), *_to_mind(images, encoder, task)]


def _first(images: int, encoder: Encoder, task: Use) -> Iterator[Choice]:
    if encoder.is_vit and images >= MANY:
        why = "trains whole images and patches at once and came to the best frozen features of both on 142 million curated images; curate first"
        yield Choice("dinov2", why, "https://arxiv.org/abs/2304.07193")
        if task != "global":
            yield Choice("dinov3", "keeps patches apart through a long training by Gram anchoring", "https://arxiv.org/abs/2508.10104")
    elif encoder.is_vit and images >= FEW and task == "both":
        yield Choice("ibot", "its ViT-B leads the published linear, box and mask figures on ImageNet-1k at once", "https://arxiv.org/abs/2111.07832")


def _by_tables(images: int, encoder: Encoder, task: Use) -> Iterator[Choice]:
    """The best of the nearest table of each task."""
    for wanted in ("global", "dense") if task == "both" else (task,):
        architecture = encoder.architecture if encoder.architecture in ("vit", "swin") else None
        fitting = [table for table in TABLES if table.task == wanted and table.architecture == architecture]
        if not fitting:
            continue
        table = min(fitting, key=lambda table: (len(table.figures) < CONTEST, _distance(table, images)))
        for kind in sorted(table.figures, key=lambda kind: -table.figures[kind][0])[:BEST]:
            yield Choice(kind, _told(table, kind), table.source or kinds(Method)[kind].paper)


def _distance(table: Table, images: int) -> float:
    return abs(math.log(table.images / max(images, 1)))


def _told(table: Table, kind: str) -> str:
    value, epochs = table.figures[kind]
    best = max(table.figures.values())[0] == value and len(table.figures) >= CONTEST
    of = (
        f"the best of {len(table.figures)} methods" if best else f"among the best of {len(table.figures)} methods" if len(table.figures) >= CONTEST else "works"
    )
    budget = f", {epochs} epochs" if epochs else ""
    return f"{of} on {table.data} ({table.images:,} images), {table.backbone}{budget}: {value:g} {table.protocol}"


def _made_for(encoder: Encoder, task: Use) -> Iterator[Choice]:
    """Methods whose point is this encoder or task, of which no comparable figure is at hand."""
    if encoder.architecture == "convnextv2":
        yield Choice("fcmae", "the masked autoencoder that ConvNeXt V2 was designed with", "https://arxiv.org/abs/2301.00808")
    if encoder.architecture == "swin" and task != "global":
        yield Choice("uniform_masking", "masks evenly in every window, so that none is empty", "https://arxiv.org/abs/2205.10063")
    if encoder.architecture not in ("vit", "swin") and task != "global":
        yield Choice("densecl", "contrasts places beside whole images, for detection and segmentation with ConvNets", "https://arxiv.org/abs/2011.09157")
        yield Choice("vicregl", "the same without negatives: places that show the same point are matched", "https://arxiv.org/abs/2210.01571")


def _to_mind(images: int, encoder: Encoder, task: Use) -> Iterator[Choice]:
    if images < FEW:
        why = f"{images:,} images are few: start from trained weights and continue on your own images, where a checkpoint of this encoder is at hand"
        yield Choice("init_from", why, "docs/continued-pretraining.md")
    if encoder.is_vit and images < FEW:
        table = next(table for table in TABLES if (table.data, table.backbone) == ("Imagenette", "ViT-S/16"))
        masked = ", ".join(f"{kind} {table.figures[kind][0]:g}" for kind in ("simmim", "data2vec", "i_jepa", "ibot"))
        why = f"of {table.images:,} images they learned little in 200 epochs ({masked}; swav {table.figures['swav'][0]:g} {table.protocol})"
        yield Choice("leave methods that predict masked features to more images", why, table.source)
    if images >= MANY:
        yield Choice("curate", "raw collections are uneven: deduplicate, balance or retrieve before training", "https://arxiv.org/abs/2304.07193, section 3")
    if encoder.is_vit and images >= MANY:
        yield Choice("pmsn", "where the concepts are of unlike frequency, a prior other than the uniform one", "https://arxiv.org/abs/2210.07277")
    if encoder.is_vit and task != "global":
        yield Choice("judge by fine-tuning too", "linear probes tell too little of masked methods, whose strength is fine-tuning", _COOKBOOK)
    if task != "dense" and encoder.architecture != "vit":
        yield Choice("moco_v2 or simclr with decoupled: true", "where only batches below 256 fit: a queue, or a loss that small batches suffice", _COOKBOOK)
    if task == "both" and not encoder.is_vit:
        why = "methods that train whole images and patches at once mask patches, which other encoders lack"
        yield Choice("a ViT", why, "https://arxiv.org/abs/2304.07193, section 6")
