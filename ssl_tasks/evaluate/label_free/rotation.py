"""Rotation probe: Reed, Metzger, Srinivas, Darrell, Keutzer, 2020 (SelfAugment), https://arxiv.org/abs/2009.07724, section 3.1.

A linear head on frozen features tells by how many quarter turns an image was rotated (Gidaris, Singh, Komodakis, 2018,
https://arxiv.org/abs/1803.07728); its accuracy follows that of a supervised probe, without labels. Chance is a quarter.
Void where training rotated its views, or that of a teacher or of the weights it started from: such a model is taught not to tell.

Differs from the paper: the head is a logistic regression, fitted to train and judged on test images.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from schemas.artifacts import MANIFEST, Checkpoint, read
from schemas.job import Job
from schemas.protocols.label_free import Rotation
from ssl_tasks.evaluate.findings import Number, Skipped, right
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.probes import STRENGTHS, logistic
from ssl_tasks.evaluate.sampling import drawn
from ssl_tasks.evaluate.subject import Subject

TURNS = 4


def judge(protocol: Rotation, subject: Subject) -> Iterator[Number]:
    parts, seed = subject.world.parts, subject.world.seed
    if subject.is_model and subject.artifact and (stage := rotated_in(subject.artifact, subject.world.job)):
        raise Skipped(f"cannot be judged: training rotated its images (stage '{stage}'), and a model that is taught not to see rotation says nothing by it")
    train, test = drawn(parts.train, protocol.samples, seed), drawn(parts.queries, protocol.samples, seed)
    model = logistic(_turned(subject, train), np.tile(np.arange(TURNS), len(train)), STRENGTHS, seed)
    found = right(model.predict(_turned(subject, test).astype(np.float64)), np.tile(np.arange(TURNS), len(test)))
    each = found.reshape(len(test), TURNS).mean(1)
    yield Number("accuracy", [float(each.mean())], len(test), each)


def meaning(protocol: Rotation) -> str:
    return (
        f"Logistic regression on the features of up to {protocol.samples:,} train images, each in its four quarter turns, tells by which one "
        "was turned; no labels. Percent that is right of as many test images in all four turns; chance is 25. Turns are exact: nothing is "
        "interpolated. Void, and left out, where training rotated its views; of weights from a file it is not known whether it did."
    )


def rotated_in(artifact: Checkpoint, job: Job) -> str:
    """The stage in which a model's views were rotated, or those of a model that it learned from; empty where none is known."""
    if _rotates(artifact.config):
        return artifact.stage
    for key in artifact.parents.values():
        if (job.folder(key) / MANIFEST).exists():
            parent = read(job.folder(key))
            if isinstance(parent, Checkpoint) and (stage := rotated_in(parent, job)):
                return stage
    return ""


def _rotates(config: Any) -> bool:
    """Whether any views that a config states are rotated."""
    if isinstance(config, dict):
        return bool(config.get("rotation") and config.get("turn")) or any(_rotates(value) for value in config.values())
    return isinstance(config, list) and any(_rotates(value) for value in config)


@torch.inference_mode()
def _turned(subject: Subject, rows: Ints) -> Floats:
    """Features (4 N, D) of each image in its four turns, one after the other.

    The square is turned as it is fed to the encoder, so that no resizing or cropping tells one turn from another.
    """
    found = []
    for images in subject.batches(rows, 64):
        squares = subject.prepare(images)
        turns = torch.stack([squares.rot90(turn, (2, 3)) for turn in range(TURNS)], dim=1)
        found.append(subject.encoder(turns.flatten(0, 1)).float().cpu().numpy())
    features: Floats = np.concatenate(found)
    return features
