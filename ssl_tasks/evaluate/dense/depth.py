"""Monocular depth by a linear head on frozen patch features: RMSE, absolute relative error and delta1. https://arxiv.org/abs/2304.07193"""

from collections.abc import Iterator

from schemas.protocols.dense import Depth
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Depth, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Depth) -> str:
    raise NotImplementedError
