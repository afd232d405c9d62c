"""Alignment and uniformity: Wang, Isola, 2020, https://arxiv.org/abs/2005.10242, section 4.1.

Features on the unit sphere. Alignment is the mean squared distance of two views of an image; uniformity the log of the mean of
exp(-2 ||x - y||^2) over pairs of images. Less is better for both, and either alone is easy: one point is aligned, noise is uniform.

Differs from the paper: SimCLR's views for every model, not those of its own training; uniformity is the mean of both views'.
"""

import statistics
from collections.abc import Iterator

import torch
from torch.nn.functional import normalize

from schemas.errors import UserError
from schemas.protocols.label_free import AlignmentUniformity
from ssl_tasks.evaluate.findings import Number
from ssl_tasks.evaluate.label_free.augmented import views
from ssl_tasks.evaluate.sampling import drawn
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.measures import uniformity


def judge(protocol: AlignmentUniformity, subject: Subject) -> Iterator[Number]:
    rows = drawn(subject.world.parts.train, protocol.samples, subject.world.seed)
    if len(rows) < 2:
        raise UserError("uniformity needs two images or more of the train split")
    first, second = torch.cat([normalize(pair, dim=-1) for pair in views(subject, rows, 2)]).unbind(1)
    distances = (first - second).square().sum(1).cpu().numpy()
    yield Number("alignment", [float(distances.mean())], len(rows), distances)
    yield Number("uniformity", [statistics.fmean([uniformity(first), uniformity(second)])], len(rows))


def meaning(protocol: AlignmentUniformity) -> str:
    return (
        f"Up to {protocol.samples:,} train images, two augmented views (SimCLR's) of each, features L2-normalised; no labels. Alignment: mean squared "
        "distance of the two views, 0 to 4. Uniformity: log of the mean Gaussian potential of pairs of images, -4 to 0. Less is better for both; "
        "a collapsed model is perfectly aligned, so read them together."
    )
