"""Rotation probe: a linear head tells by which quarter turns an image was rotated; void where training rotated images. https://arxiv.org/abs/2009.07724"""

from collections.abc import Iterator

from schemas.protocols.label_free import Rotation
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Rotation, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Rotation) -> str:
    raise NotImplementedError
