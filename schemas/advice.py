"""Advice: what of a valid pipeline is unlikely to work, known before it runs, each with its reason and where that is from.

Nothing here forbids: a warning is for what papers found weak or useless, where what is written falls in that range. What no
run can get right is refused by the models themselves.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.curation import most_kept
from schemas.encoders import Encoder
from schemas.methods import BYOL, MSF, NNCLR, MoCoV1, MoCoV2
from schemas.pipeline import Pipeline
from schemas.references import Loc
from schemas.smoothing import of_teacher
from schemas.sources import Digits, Planted, Scenes, Source, Torchvision
from schemas.stages import Curate, Distill, Finetune, Ingest, Pretrain, Tokenizer
from schemas.views import Views

Advice = tuple[Loc, str]
"""Where in the pipeline, and the message."""

_TRAIN_SPLITS = {"MNIST": 60_000, "KMNIST": 60_000, "FashionMNIST": 60_000, "CIFAR10": 50_000, "CIFAR100": 50_000, "SVHN": 73_257}
_CHIRAL = {"MNIST", "KMNIST", "EMNIST", "QMNIST", "USPS", "SVHN"}
_DIGITS = 1297
_VIT_TINY = 192
"""Width from which a ViT is one of those that papers give learning rates for."""


def advice(pipeline: Pipeline) -> list[Advice]:
    """Warnings about the stages that train, in the order of the stages."""
    found: list[Advice] = []
    for name, stage in pipeline.stages.items():
        if isinstance(stage, Pretrain | Distill | Finetune | Tokenizer):
            source, images = _images(pipeline, stage.dataset)
            training = _Training(stage, source, math.ceil(stage.labels * images) if isinstance(stage, Finetune) else images)
            found += [(("stages", name, *loc), message) for topic in _TOPICS for loc, message in topic(training)]
        if isinstance(stage, Distill) and (message := of_teacher(stage, pipeline.stages)):
            found.append((("stages", name, "teacher"), message))
    return found


@dataclass(frozen=True)
class _Training:
    """A stage that trains, the source of its images, and how many there are at most; 0 where that is not known before it runs."""

    stage: Pretrain | Distill | Finetune | Tokenizer
    source: Source
    images: int

    @property
    def method(self) -> Any:
        """What a pretraining learns from; None for a finetune stage, and for a distillation, whose students may each have methods of their own."""
        return self.stage.method if isinstance(self.stage, Pretrain) else None

    @property
    def views(self) -> tuple[Loc, Views]:
        """The views of an image, and where they are stated."""
        return (("method", "views"), self.stage.method.views) if isinstance(self.stage, Pretrain) else (("views",), self.stage.views)

    @property
    def batch(self) -> int:
        """Images that a step sees: no more than there are."""
        return min(self.stage.train.batch_size, self.images or self.stage.train.batch_size)

    @property
    def steps(self) -> int:
        """Steps at most; 0 where not known."""
        return self.stage.train.steps(self.images) if self.images else 0

    @property
    def encoders(self) -> dict[Loc, Encoder]:
        """The networks that are trained from nothing, by their place."""
        if isinstance(self.stage, Finetune):
            return {("encoder",): self.stage.encoder} if self.stage.encoder else {}
        if isinstance(self.stage, Pretrain):
            return {("encoder",): self.stage.encoder}
        if isinstance(self.stage, Tokenizer):
            return {}
        return {("students", name): student for name, student in self.stage.students.items()}

    def number(self, name: str) -> float | None:
        """A parameter of the method, where it has one of that name."""
        value = getattr(self.method, name, None)
        return float(value) if isinstance(value, int | float) else None


def _images(pipeline: Pipeline, dataset: str) -> tuple[Source, int]:
    """The source behind a dataset, and a bound on its kept train images; 0 where there is none."""
    bounds, stage = [], pipeline.stages[dataset]
    while isinstance(stage, Curate):
        bounds += most_kept(stage.steps)
        stage = pipeline.stages[stage.dataset]
    assert isinstance(stage, Ingest)
    match stage.source:
        case Digits():
            bounds.append(_DIGITS)
        case Scenes(count=count, test=test):
            bounds.append(round(count * (1 - test)))
        case Planted(part="pool"):
            bounds.append(stage.source.images_at_most)
        case Torchvision(name=name) if name in _TRAIN_SPLITS:
            bounds.append(_TRAIN_SPLITS[name])
        case _:
            pass
    return stage.source, min(bounds, default=0)


def _batch(training: _Training) -> Iterator[Advice]:
    smallest, batch = getattr(training.method, "smallest_batch", 0), training.stage.train.batch_size
    few = 0 < training.images < 8 * smallest  # where a larger batch would leave only some steps an epoch
    if batch < smallest and not few:
        yield (
            ("train", "batch_size"),
            f"{training.method.kind} is weak with batches of {batch}: its paper, or a study of it, finds a loss below {smallest} ({training.method.paper})",
        )
    if training.images and batch > training.images:
        yield ("train", "batch_size"), f"a batch of {batch} is more than the {training.images:,} images that there are: every step trains on all of them"


def _flips(training: _Training) -> Iterator[Advice]:
    source = training.source
    named = source.kind if isinstance(source, Digits) else source.name if isinstance(source, Torchvision) and source.name in _CHIRAL else ""
    place, views = training.views
    if named and views.flip:
        yield (*place, "flip"), f"a mirrored character of '{named}' is another one, or none: set flip to 0"


def _colours(training: _Training) -> Iterator[Advice]:
    (_, views), stage = training.views, training.stage
    if not isinstance(stage, Pretrain) or stage.encoder.channels == 1 or training.method.family in ("masked", "pretext") or "colour" in training.method.needs:
        return
    if not views.grey and not (views.jitter and (views.brightness or views.contrast or views.saturation or views.hue)):
        yield (
            ("method", "views"),
            "views keep the image's colours, whose histogram alone tells images apart, so little else is learned: "
            "set jitter or grey above 0 (SimCLR, section 3.1: https://arxiv.org/abs/2002.05709)",
        )


def _teacher(training: _Training) -> Iterator[Advice]:
    momentum, place = training.number("momentum"), ("method", "momentum")
    if momentum is None:
        return
    if momentum == 1:
        yield place, "a teacher with momentum 1 never leaves its random start (BYOL, table 5a: https://arxiv.org/abs/2006.07733)"
    elif momentum < 0.9:
        yield (
            place,
            f"a teacher with momentum {momentum:g} is nearly the student itself, which fails or collapses "
            "(MoCo, section 4.1: https://arxiv.org/abs/1911.05722; BYOL, table 5a: https://arxiv.org/abs/2006.07733)",
        )
    elif training.steps and (kept := momentum ** (training.steps * _mean_pace(training))) > 1 / math.e:
        yield (
            place,
            f"after {training.steps:,} steps with momentum {momentum:g} the teacher is still {kept:.0%} its random start: "
            "train longer or lower it (BYOL's authors take 0.97 for 40 epochs, 0.996 for 1,000: "
            "https://github.com/google-deepmind/deepmind-research/blob/master/byol/configs/byol.py)",
        )


def _mean_pace(training: _Training) -> float:
    """Mean of 1 - momentum over the training, over its start's: 1 for a constant one, a half where a cosine takes it to 1."""
    rises = not isinstance(training.method, MoCoV1 | MoCoV2) and getattr(training.method, "momentum_end", 1.0) == 1
    return 0.5 if rises else 1.0


def _queue(training: _Training) -> Iterator[Advice]:
    queue, momentum = training.number("queue"), training.number("momentum")
    if not queue:
        return
    if training.images and queue > training.images:
        role = "as its own nearest neighbour" if isinstance(training.method, NNCLR | MSF) else "as a negative"
        yield (
            ("method", "queue"),
            f"a queue of {queue:,.0f} is longer than the {training.images:,} images: it holds each several times, also the query's own image {role}",
        )
    elif isinstance(training.method, MSF):  # its authors' memory is as old, and only looked up
        return
    elif momentum and (drift := 1 - momentum ** (queue / training.batch)) > 0.5 and momentum >= 0.9:
        yield (
            ("method", "queue"),
            f"while a key is in the queue, {queue / training.batch:,.0f} steps, {drift:.0%} of the key encoder is replaced: "
            "shorten the queue or raise momentum, so that keys compare (MoCo, section 3.2: https://arxiv.org/abs/1911.05722)",
        )


def _prototypes(training: _Training) -> Iterator[Advice]:
    prototypes = training.number("prototypes")
    if prototypes is None:
        return
    if training.images and prototypes > training.images:
        yield (
            ("method", "prototypes"),
            f"{prototypes:,.0f} prototypes for {training.images:,} images: most can never be any image's own; the papers have 20 and more images for each "
            "(DINO: 65,536 for 1.28 million)",
        )
    if prototypes < 16:
        yield ("method", "prototypes"), f"{prototypes:.0f} prototypes can tell no more groups of images apart than that; the papers have thousands"


def _temperature(training: _Training) -> Iterator[Advice]:
    temperature = training.number("temperature")
    if temperature is not None and not 0.02 <= temperature <= 4:
        effect = "sees only the nearest negative" if temperature < 1 else "hardly tells near negatives from far ones"
        yield ("method", "temperature"), f"a temperature of {temperature:g} {effect} (SimCLR, table 5, tries 0.05 to 1: https://arxiv.org/abs/2002.05709)"
    teacher, student = training.number("teacher_temperature"), training.number("student_temperature")
    if teacher is not None and student is not None and teacher > 0.75 * student:
        yield (
            ("method", "teacher_temperature"),
            f"{teacher:g} is hardly sharper than the student's {student:g}: the teacher may fade to uniform; DINO's authors find 0.07 against 0.1 the most "
            "that is stable (https://github.com/facebookresearch/dino)",
        )


def _weights(training: _Training) -> Iterator[Advice]:
    reasons = {
        "variance": "nothing keeps embeddings apart, and they collapse to one point (VICReg, table 7: https://arxiv.org/abs/2105.04906)",
        "covariance": "all dimensions may say the same (VICReg, table 7: https://arxiv.org/abs/2105.04906)",
        "invariance": "views of an image need not agree, so nothing is learned from them (VICReg, table 7: https://arxiv.org/abs/2105.04906)",
        "redundancy": "all dimensions may say the same (Barlow Twins, table 2: https://arxiv.org/abs/2103.03230)",
    }
    for name, reason in reasons.items():
        if training.number(name) == 0:
            yield ("method", name), f"with the weight 0 {reason}"
    if training.number("center_momentum") == 1 and getattr(training.method, "centering", "center") == "center":
        yield (
            ("method", "center_momentum"),
            "a center that never moves lets one prototype win every image (DINO, section 5.3: https://arxiv.org/abs/2104.14294)",
        )
    if isinstance(training.method, BYOL) and training.stage.train.optimizer.weight_decay == 0:
        yield ("train", "optimizer", "weight_decay"), "BYOL without weight decay may diverge (appendix G: https://arxiv.org/abs/2006.07733)"


def _masking(training: _Training) -> Iterator[Advice]:
    ratio = training.number("mask_ratio")
    if ratio is not None and training.method.family == "masked" and not 0.4 <= ratio <= 0.9:
        yield (
            ("method", "mask_ratio"),
            f"masking {ratio:.0%} of the patches makes the task too {'easy' if ratio < 0.4 else 'hard'}: 40 to 80% work (MAE, figure 5: https://arxiv.org/abs/2111.06377)",
        )


def _sizes(training: _Training) -> Iterator[Advice]:
    stated, views = training.views
    for place, encoder in training.encoders.items():
        if encoder.is_vit and encoder.patch and (tokens := (encoder.image_size // encoder.patch) ** 2) > 784:
            times = f"{(tokens / 196) ** 2:,.0f} times the time and memory of 224 px in patches of 16"
            yield (*place, "image_size"), f"{tokens:,} patches an image: attention takes {times}"
        if encoder.patch and views.local_count and (side := views.local_side(encoder.image_size) // encoder.patch) < 3:
            yield (
                (*stated, "local_size"),
                f"a local crop has {side}x{side} patches of {encoder.patch} px, too few to tell what it shows; DINO's have 6x6 (https://arxiv.org/abs/2104.14294)",
            )
        if encoder.name.startswith("resnet") and encoder.stem == "imagenet" and encoder.image_size <= 64:
            left = max(1, encoder.image_size // 32)
            yield (
                (*place, "stem"),
                f"an ImageNet stem leaves {left}x{left} positions of {encoder.image_size} px: set stem to cifar or half "
                "(SimCLR, appendix B.9: https://arxiv.org/abs/2002.05709)",
            )


def _warmup(training: _Training) -> Iterator[Advice]:
    train, vits = training.stage.train, [encoder.name for encoder in training.encoders.values() if encoder.is_vit]
    starts = not isinstance(training.stage, Pretrain) or not training.stage.continues
    if vits and starts and train.warmup == 0:
        yield (
            ("train", "warmup"),
            f"a ViT ('{vits[0]}') trains unsteadily without a warm-up: DINO's lasts 10 of 100 epochs (https://arxiv.org/abs/2104.14294), "
            "MoCo v3's 40 of 300 (https://arxiv.org/abs/2104.02057)",
        )


def _rate(training: _Training) -> Iterator[Advice]:
    """A rate is far from a paper's where it is so by both ways to scale it with the batch: linear, and by the square root."""
    train, place = training.stage.train, ("train", "optimizer", "learning_rate")
    ratio = training.batch / 256
    least, most = sorted((ratio, math.sqrt(ratio)))
    peak = train.peak_rate(training.batch)
    large = [encoder for encoder in training.encoders.values() if encoder.is_vit and (encoder.width or _VIT_TINY) >= _VIT_TINY]
    if train.optimizer.kind == "adamw" and large and isinstance(training.stage, Pretrain):
        told = f"what DINO gives a ViT for a batch of {training.batch}, 5e-4 x batch / 256 (https://arxiv.org/abs/2104.14294)"
        if peak > 10 * 5e-4 * most:
            yield place, f"a peak of {peak:.2g} is more than 10 times {told}"
        elif peak < 5e-4 * least / 30:
            yield place, f"a peak of {peak:.2g} is less than a thirtieth of {told}"
    if train.optimizer.kind == "sgd" and not isinstance(training.stage, Finetune | Tokenizer) and peak > 10 * 0.05 * max(most, 1):
        told = f"what SimSiam gives SGD for a batch of {training.batch}, 0.05 x batch / 256 (https://arxiv.org/abs/2011.10566)"
        yield place, f"a peak of {peak:.2g} is more than 10 times {told}"


_TOPICS = (_batch, _flips, _colours, _teacher, _queue, _prototypes, _temperature, _weights, _masking, _sizes, _warmup, _rate)
