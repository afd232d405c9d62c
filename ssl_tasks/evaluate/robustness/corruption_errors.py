"""What a model gets wrong on corrupted test images, worked out once for each model. Shapes: n images, C corruptions, S severities."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from schemas.protocols.robustness import Corruptions
from ssl_tasks.data.corruptions import corrupted
from ssl_tasks.evaluate import probes
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.nn.features import prepare

_NUMBERS = 2**22
"""Values of the images that are corrupted at a time."""


@dataclass(frozen=True)
class Errors:
    """Whether each image was wrong, 1 or 0: `clean` (n,), and `corrupted` (C, S, n)."""

    clean: NDArray[np.float64]
    corrupted: NDArray[np.float64]


def errors(protocol: Corruptions, subject: Subject, rows: Ints) -> Errors:
    """What a model gets wrong, worked out once for each model and protocol of an evaluation: it may be the baseline of the others."""
    weights = subject.artifact.files if subject.is_model and subject.artifact else subject.config.model_dump_json()
    key = json.dumps(["corruptions", weights, protocol.model_dump(mode="json", exclude={"baseline"})])
    shared = subject.world.shared
    if key not in shared:
        shared[key] = _errors(protocol, subject, rows)
    found: Errors = shared[key]
    return found


def _errors(protocol: Corruptions, subject: Subject, rows: Ints) -> Errors:
    parts, probe = subject.world.parts, probes.fit(protocol.probe, subject)
    labels, numbers = parts.labels[rows], keys(subject, rows)
    kinds = [(kind, severity) for kind in protocol.corruptions for severity in protocol.severities]
    wrong = np.zeros((len(kinds), len(rows)))
    size = max(8, _NUMBERS // (subject.config.channels * min(subject.size, subject.side) ** 2))
    for start, images in zip(range(0, len(rows), size), subject.batches(rows, size), strict=True):
        here, clean = slice(start, start + size), fed(subject, images).to(subject.world.device)
        features = np.concatenate([_features(subject, corrupted(clean, *kind, numbers[here], subject.world.seed)) for kind in kinds])
        wrong[:, here] = probe.predict(features).reshape(len(kinds), -1) != labels[here]
    unspoilt = probe.predict(subject.features[rows]) != labels
    return Errors(unspoilt.astype(np.float64), wrong.reshape(len(protocol.corruptions), len(protocol.severities), len(rows)))


def fed(subject: Subject, images: Tensor) -> Tensor:
    """Stored squares as they are corrupted, uint8: cropped to the encoder's size where they are larger, else as they are."""
    if images.shape[-1] <= subject.size:
        return images
    channels = images.shape[1]
    return prepare(images, subject.size, [0.0] * channels, [1.0] * channels).mul(255).round().clamp(0, 255).to(images.dtype)


def _features(subject: Subject, images: Tensor) -> Floats:
    found: Floats = subject.embed(images).pooled.float().cpu().numpy()
    return found


def keys(subject: Subject, rows: Ints) -> list[int]:
    """What an image's random numbers follow from: its bytes, wherever it is listed."""
    return [int(sha[:12], 16) for sha in subject.world.table["sha256"].take(rows).to_pylist()]
