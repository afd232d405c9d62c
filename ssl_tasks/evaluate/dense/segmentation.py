"""Mean IoU of a linear head on frozen patch features: DINOv2, https://arxiv.org/abs/2304.07193, section 7.4; DINOv3, https://arxiv.org/abs/2508.10104, 6.1.

Differs from the papers: 2,000 steps unless stated (40,000), no photometric distortion of the crops, and windows of the encoder's own image
size. An image counts at its own size, not with its shorter side at 512 pixels; only one that is smaller than a window is enlarged.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from schemas.errors import UserError
from schemas.protocols.dense import Segmentation
from ssl_tasks.data.annotations import load
from ssl_tasks.data.annotations.interfaces import VOID
from ssl_tasks.evaluate.dense.annotated import pictures, sides
from ssl_tasks.evaluate.dense.examples import Examples
from ssl_tasks.evaluate.dense.head import Head, bands, patches, resized, train, upsampled
from ssl_tasks.evaluate.dense.shown import IMAGES, Shown, class_colours, plate
from ssl_tasks.evaluate.findings import Finding, Number
from ssl_tasks.evaluate.subject import Subject

WARMUP = 1_500 / 40_000
"""Share of the training until the highest learning rate (DINOv3)."""
SMALLEST, LARGEST = 0.5, 2.0
"""By how much a crop is scaled."""
NAMED = 12
"""Classes in a caption."""

Counts = NDArray[np.int64]


def judge(protocol: Segmentation, subject: Subject) -> Iterator[Finding]:
    seen = pictures(subject.world)
    masks = load.masks(protocol.annotations, seen)
    trained, tested = sides(masks, subject.world, "mask")
    examples = Examples(seen, masks.of, subject.config.channels, VOID)
    size, classes = subject.config.image_size, masks.classes
    with torch.random.fork_rng():
        torch.manual_seed(subject.world.seed)
        head = Head(subject.encoder.width, len(classes))
        crops = examples.crops(trained, protocol.steps, protocol.batch_size, size, partial(scaled, size), subject.world.seed)
        settings = {"learning_rate": protocol.learning_rate, "weight_decay": protocol.weight_decay, "warmup": WARMUP}
        train(head, subject, crops, lambda said, truth, _: loss(said, truth), steps=protocol.steps, **settings)
    counts, shown = np.zeros((len(classes), len(classes)), np.int64), list[Shown]()
    for row in tested.tolist():
        image, truth = examples.of(row)
        said = predict(head, subject, torch.from_numpy(image), max(1, round(size * protocol.stride)))
        counts += confusion(truth, said, len(classes))
        if len(shown) < IMAGES:
            shown.append(Shown(image, class_colours(truth), class_colours(said)))
    if not counts.sum():
        raise UserError(f"no pixel of the {len(tested)} test images has a class: all are void")
    each = ious(counts)
    yield Number("miou", [float(np.nanmean(each))], len(tested))
    yield Number("pixel_accuracy", [float(np.trace(counts) / counts.sum())], len(tested))
    if subject.is_model:
        told = f"A colour is a class; what is void is grey. IoU in percent: {_worth(classes, counts, each)}."
        yield plate("segmentation", "Segmentation", subject, shown, told)


def meaning(protocol: Segmentation) -> str:
    return (
        "Batch norm and a linear layer on the frozen features of each patch, bilinearly upsampled, trained by cross entropy: "
        f"{protocol.steps:,} steps of AdamW on {protocol.batch_size} crops of the train images, scaled by {SMALLEST:g} to {LARGEST:g} and flipped, learning "
        f"rate {protocol.learning_rate:g}, weight decay {protocol.weight_decay:g}. Test images count at their own size: windows of the encoder's image "
        f"size slide by {protocol.stride:.2f} of their side, and their logits are averaged. The mean is over classes that occur in truth or prediction; "
        "void pixels count for nothing."
    )


def _worth(classes: list[str], counts: Counts, each: NDArray[np.float64]) -> str:
    """The classes that most pixels are of, and what is reached on each."""
    most = [i for i in np.argsort(-counts.sum(1), kind="stable").tolist() if not np.isnan(each[i])]
    more = f", and {len(most) - NAMED} more classes" if len(most) > NAMED else ""
    return ", ".join(f"{classes[i]} {100 * each[i]:.0f}" for i in most[:NAMED]) + more


def scaled(size: int, shorter: int, draw: float) -> int:
    """Side of a crop in pixels of an image, which is scaled by 0.5 to 2; one that is smaller than a window is first enlarged to it."""
    return max(1, round(min(size, shorter) / (SMALLEST + draw * (LARGEST - SMALLEST))))


def loss(said: Tensor, truth: Tensor) -> Tensor:
    """Mean cross entropy of the pixels that are not void; said (B, K, h, w), truth (B, S, S). One image at a time, for memory."""
    each = [checkpoint(_summed, said[i : i + 1], truth[i : i + 1], use_reentrant=False) for i in range(len(said))]
    return torch.stack(each).sum() / (truth != VOID).sum().clamp_min(1)


def _summed(said: Tensor, truth: Tensor) -> Tensor:
    logits = upsampled(said, truth.shape[-1])[0].flatten(1).mT
    return cross_entropy(logits, truth.flatten(), ignore_index=VOID, reduction="sum")


@torch.inference_mode()
def predict(head: Head, subject: Subject, image: Tensor, stride: int) -> NDArray[np.int64]:
    """The class of each pixel, (H, W), of an image (C, H, W) of uint8."""
    size, (height, width) = subject.config.image_size, image.shape[-2:]
    larger = max(1.0, size / min(height, width))

    def look(windows: Tensor) -> Tensor:
        return upsampled(head(patches(subject, windows)), size)

    enlarged = resized(image.float(), max(size, round(height * larger)), max(size, round(width * larger))) if larger > 1 else image.float()
    found = bands(enlarged, size, stride, look)
    if larger > 1:
        logits = resized(torch.cat(list(found), dim=1), height, width)
        return logits.argmax(0).cpu().numpy()
    return np.concatenate([band.argmax(0).cpu().numpy() for band in found])


def confusion(truth: NDArray[np.int64], said: NDArray[np.int64], classes: int) -> Counts:
    """How many pixels of each true class (rows) are given to each class (columns), (K, K), leaving out those that are void."""
    known = truth != VOID
    found: Counts = np.bincount(truth[known] * classes + said[known], minlength=classes**2).reshape(classes, classes)
    return found


def ious(counts: Counts) -> NDArray[np.float64]:
    """Intersection over union of each class, (K,); NaN of one that occurs neither in truth nor in prediction."""
    both = np.diag(counts).astype(np.float64)
    either = counts.sum(0) + counts.sum(1) - both
    found: NDArray[np.float64] = np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)
    return found
