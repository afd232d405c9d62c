"""Monocular depth by a linear head on frozen patch features: DINOv2, https://arxiv.org/abs/2304.07193, 7.4; DINOv3, https://arxiv.org/abs/2508.10104, 6.1.

The head gives each patch a weight for each of `bins` depths of equal distance, relu(logit) + 0.1 over their sum; the patch's depth is their
weighted mean (AdaBins, https://arxiv.org/abs/2011.14141, with bins that do not adapt).

Differs from the papers: 2,000 steps unless stated (38,400); images have their shorter side at the encoder's image size; crops are flipped but
neither turned nor recoloured; no CLS token beside the patches; at test time no mean with the mirrored image, and no crop as for NYU.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import UserError
from schemas.protocols.dense import Depth
from ssl_tasks.data.annotations import load
from ssl_tasks.evaluate.dense.annotated import pictures, sides
from ssl_tasks.evaluate.dense.examples import Examples
from ssl_tasks.evaluate.dense.head import Head, bands, patches, resized, train, upsampled
from ssl_tasks.evaluate.dense.shown import IMAGES, Shown, depth_colours, plate
from ssl_tasks.evaluate.findings import Finding, Number
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.losses.depth import scale_invariant_log

WARMUP = 12_800 / 38_400
"""Share of the training until the highest learning rate (DINOv3)."""
SCALE_ALONE = 100 / 38_400
"""Share of the training at its beginning in which only the scale is fitted (DINOv3)."""
STRIDE = 2 / 3
"""Between two windows along the longer side, in window sides."""
METRICS = ("rmse", "abs_rel", "delta1")

Map = NDArray[np.float32]


def judge(protocol: Depth, subject: Subject) -> Iterator[Finding]:
    limits = (protocol.nearest, protocol.farthest)
    seen = pictures(subject.world)
    known = load.depths(protocol.annotations, seen)
    trained, tested = sides(known, subject.world, "depth")
    examples = Examples(seen, known.of, subject.config.channels, 0)
    size = subject.config.image_size
    with torch.random.fork_rng():
        torch.manual_seed(subject.world.seed)
        head = Head(subject.encoder.width, protocol.bins)
        crops = examples.crops(trained, protocol.steps, protocol.batch_size, size, lambda shorter, _: shorter, subject.world.seed)

        def loss(said: Tensor, truth: Tensor, progress: float) -> Tensor:
            depth = upsampled(expected(said, *limits), size)[:, 0]
            return scale_invariant_log(depth, truth, (truth >= limits[0]) & (truth <= limits[1]), progress >= SCALE_ALONE)

        settings = {"learning_rate": protocol.learning_rate, "weight_decay": protocol.weight_decay, "warmup": WARMUP}
        train(head, subject, crops, loss, steps=protocol.steps, **settings)
    found, shown = [], list[Shown]()
    for row in tested.tolist():
        image, truth = examples.of(row)
        if not within(truth, *limits).any():
            continue
        said = predict(head, subject, torch.from_numpy(image), *limits)
        found.append(errors(said, truth, within(truth, *limits)))
        if len(shown) < IMAGES:
            shown.append(Shown(image, depth_colours(truth, protocol.farthest), depth_colours(said, protocol.farthest)))
    if not found:
        raise UserError(f"no test image has a depth between {limits[0]:g} and {limits[1]:g} m: mend `nearest`, `farthest` or `annotations.metre`")
    for metric, items in zip(METRICS, np.array(found).T, strict=True):
        yield Number(metric, [float(items.mean())], len(items), items)
    if subject.is_model:
        yield plate("depth", "Depth", subject, shown, f"Near is bright, {protocol.farthest:g} m and beyond is dark, unknown is black.")


def meaning(protocol: Depth) -> str:
    return (
        f"Batch norm and a linear layer on the frozen features of each patch give weights of {protocol.bins} depths from {protocol.nearest:g} to "
        f"{protocol.farthest:g} m, whose mean is the patch's depth, bilinearly upsampled. Trained by the scale-invariant log loss: {protocol.steps:,} steps of "
        f"AdamW on {protocol.batch_size} squares of the train images, flipped, learning rate {protocol.learning_rate:g}, weight decay "
        f"{protocol.weight_decay:g}. The error of an image is over its pixels of known depth between these limits; the mean is over images."
    )


def expected(logits: Tensor, nearest: float, farthest: float) -> Tensor:
    """Depths (B, 1, h, w) in metres of logits (B, bins, h, w)."""
    weights = logits.relu() + 0.1
    centres = torch.linspace(nearest, farthest, logits.shape[1], device=logits.device)
    return torch.einsum("bkhw,k->bhw", weights / weights.sum(1, keepdim=True), centres)[:, None]


def within(metres: Map, nearest: float, farthest: float) -> NDArray[np.bool_]:
    """Where a depth (H, W) is known and counts."""
    found: NDArray[np.bool_] = (metres >= nearest) & (metres <= farthest)
    return found


@torch.inference_mode()
def predict(head: Head, subject: Subject, image: Tensor, nearest: float, farthest: float) -> Map:
    """The depth of each pixel in metres, (H, W), of an image (C, H, W) of uint8."""
    size, (height, width) = subject.config.image_size, image.shape[-2:]
    scale = size / min(height, width)

    def look(windows: Tensor) -> Tensor:
        return upsampled(expected(head(patches(subject, windows)), nearest, farthest), size)

    whole = resized(image.float(), round(height * scale), round(width * scale))
    found = torch.cat(list(bands(whole, size, max(1, round(size * STRIDE)), look)), dim=1)
    depth: Map = resized(found, height, width)[0].cpu().numpy().astype(np.float32)
    return depth


def errors(said: NDArray[np.floating], truth: NDArray[np.floating], valid: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Of an image: root of the mean squared error in metres, mean error over truth, and share of pixels off by less than a factor of 1.25.

    https://arxiv.org/abs/1406.2283, section 4.1; all maps are (H, W), and only valid pixels count.
    """
    d, t = said[valid].astype(np.float64), truth[valid].astype(np.float64)
    return float(np.sqrt(np.mean((d - t) ** 2))), float(np.mean(np.abs(d - t) / t)), float(np.mean(np.maximum(d / t, t / d) < 1.25))
