"""COCO-style AP of torchvision's Faster R-CNN, or Mask R-CNN where masks are wanted, on the encoder. https://arxiv.org/abs/1703.06870

The encoder is the backbone as ViTDet has it, https://arxiv.org/abs/2203.16527; heads are torchvision's, anchors are 8 strides wide as on COCO.

Differs from ViTDet: AdamW without layer-wise decay, 128 regions an image and step (512), images at their own size unless `size` is given,
without flips or changes of scale, and an encoder that stays frozen unless `frozen` is false. So APs compare between encoders under one
config, not with published ones.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from schemas.errors import UserError
from schemas.protocols.dense import Detection
from ssl_tasks.data.annotations import load
from ssl_tasks.data.annotations.interfaces import Boxes, Objects
from ssl_tasks.data.annotations.pictures import Pictures
from ssl_tasks.data.loader import seed_of
from ssl_tasks.evaluate.dense.annotated import pictures, sides
from ssl_tasks.evaluate.dense.coco_ap import COCOScores, Found, What
from ssl_tasks.evaluate.findings import Number
from ssl_tasks.evaluate.neighbours import Ints
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.schedules import cosine, linear

_WARMUP = 0.05
"""Share of the steps."""
_REGIONS = 128
"""Of an image that the boxes' head is trained on in a step: with 512, as on COCO, a step on four images of 48 pixels took three times the time on a CPU."""


def judge(protocol: Detection, subject: Subject) -> Iterator[Number]:
    world, channels = subject.world, subject.config.channels
    images = pictures(world)
    known = load.boxes(protocol.annotations, images)
    if protocol.masks and not known.masked:
        raise UserError("masks is true, but the annotations have boxes alone; leave masks out, or take annotations with masks")
    train, test = sides(known, world, "annotation of its objects")
    with torch.random.fork_rng([torch.device(world.device)] if world.device != "cpu" else []):
        torch.manual_seed(seed_of(world.seed, "detection"))
        model = _trained(protocol, subject, images, known, train)
        scores = COCOScores(len(known.classes))
        for row in test.tolist():
            image = images.pixels(row, channels)
            scores.add(known.of(row), find(model, torch.from_numpy(image).to(world.device)), (image.shape[1], image.shape[2]))
    kinds: list[tuple[str, What]] = [("box", "bbox"), ("mask", "segm")]
    for name, what in kinds[: 1 + protocol.masks]:
        ap, ap50 = scores.average_precision(what)
        yield Number(f"{name}_ap", [ap], len(test))
        yield Number(f"{name}_ap50", [ap50], len(test))


def meaning(protocol: Detection) -> str:
    network, what = ("Mask R-CNN", "boxes and masks") if protocol.masks else ("Faster R-CNN", "boxes")
    encoder = "stays frozen" if protocol.frozen else "is trained along, at a tenth of the learning rate"
    size = "at their own size" if protocol.size is None else f"resized to a shorter side of {protocol.size} pixels"
    return (
        f"torchvision's {network} on a feature pyramid of {protocol.width} channels of the encoder, which {encoder}; {protocol.steps:,} steps of "
        f"{protocol.batch_size} annotated train images {size}, by AdamW with a learning rate of at most {protocol.learning_rate:g}. AP of {what} on the "
        "annotated test images is COCO's own, by pycocotools: the mean over IoU from 0.5 to 0.95 and over classes; AP50 counts IoU from 0.5."
    )


def detector(subject: Subject, classes: int, protocol: Detection) -> nn.Module:
    """torchvision's detector on the encoder, with classes 1, 2, ...; its heads are initialised by the global random state."""
    from torchvision.models.detection import FasterRCNN, MaskRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    from ssl_tasks.evaluate.dense.pyramid import Pyramid

    assert subject.artifact
    width = protocol.width
    backbone = Pyramid(deepcopy(subject.encoder).requires_grad_(not protocol.frozen), width)
    settings: dict[str, Any] = {
        "rpn_anchor_generator": AnchorGenerator([(8 * stride,) for stride in backbone.strides], [(0.5, 1.0, 2.0)] * len(backbone.strides)),
        "box_roi_pool": MultiScaleRoIAlign(backbone.names, output_size=7, sampling_ratio=2),
        "box_head": TwoMLPHead(width * 7 * 7, 4 * width),
        "box_predictor": FastRCNNPredictor(4 * width, 1 + classes),
        "image_mean": subject.artifact.mean, "image_std": subject.artifact.std, "size_divisible": backbone.step,
        "box_batch_size_per_image": _REGIONS,
    }  # fmt: skip
    if protocol.size is not None:
        settings |= {"min_size": protocol.size, "max_size": round(protocol.size * 5 / 3)}
    if protocol.masks:
        settings["mask_roi_pool"] = MultiScaleRoIAlign(backbone.names, output_size=14, sampling_ratio=2)
        settings |= {"mask_head": MaskRCNNHeads(width, [width] * 4, 1), "mask_predictor": MaskRCNNPredictor(width, width, 1 + classes)}
    model: Any = MaskRCNN(backbone, **settings) if protocol.masks else FasterRCNN(backbone, **settings)
    if protocol.size is None:
        model.transform.resize = lambda image, target=None: (image, target)
    made: nn.Module = model.to(subject.world.device)
    return made


def _trained(protocol: Detection, subject: Subject, images: Pictures, known: Boxes, rows: Ints) -> nn.Module:
    """The detector after its training on some rows, in eval mode."""
    device, model = subject.world.device, detector(subject, len(known.classes), protocol)
    encoder = [p for p in model.backbone.encoder.parameters() if p.requires_grad]  # type: ignore[union-attr]  # a Pyramid
    own = {id(p) for p in model.backbone.encoder.parameters()}  # type: ignore[union-attr]  # likewise
    heads = [p for p in model.parameters() if id(p) not in own]
    groups = [{"params": heads, "share": 1.0}, *([{"params": encoder, "share": 0.1}] if encoder else [])]
    optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.05)
    model.train()
    for step, chosen in enumerate(_batches(rows, protocol.steps, protocol.batch_size, seed_of(subject.world.seed, "detection", "rows"))):
        progress = step / protocol.steps
        rate = linear((step + 1) / max(1.0, _WARMUP * protocol.steps), 0.0, cosine(progress, protocol.learning_rate, 0.0))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        batch = [torch.from_numpy(images.pixels(row, subject.config.channels)).to(device).float() / 255 for row in chosen]
        losses: dict[str, Tensor] = model(batch, [_target(known.of(row), protocol.masks, device) for row in chosen])
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise UserError(f"the loss is {loss.item():g} at step {step + 1} of {protocol.steps}; lower learning_rate")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def _batches(rows: Ints, steps: int, size: int, seed: int) -> Iterator[list[int]]:
    """Rows of each step; every row once before any comes again."""
    generator, waiting = np.random.default_rng(seed), list[int]()
    for _ in range(steps):
        while len(waiting) < min(size, len(rows)):
            waiting += generator.permutation(rows).tolist()
        yield waiting[: min(size, len(rows))]
        del waiting[: min(size, len(rows))]


def _target(objects: Objects, masks: bool, device: str) -> dict[str, Tensor]:
    """What torchvision trains on: single objects whose box has an area; an image may have none."""
    left, top, right, bottom = objects.boxes.T
    kept = np.flatnonzero(~objects.crowd & (right > left) & (bottom > top))
    target = {"boxes": objects.boxes[kept], "labels": 1 + objects.labels[kept]}
    if masks:
        assert objects.masks is not None
        target["masks"] = objects.masks[kept].astype(np.uint8)
    return {name: torch.from_numpy(values).to(device) for name, values in target.items()}


@torch.inference_mode()
def find(model: nn.Module, image: Tensor) -> Found:
    """What a detector in eval mode finds in an image, uint8 (C, H, W)."""
    found = {name: values.cpu().numpy() for name, values in model([image.float() / 255])[0].items()}
    masks = found["masks"][:, 0] > 0.5 if "masks" in found else None
    return Found(found["boxes"], found["labels"] - 1, found["scores"], masks)
