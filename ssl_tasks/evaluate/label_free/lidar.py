"""LiDAR: the effective rank of what tells images apart, whitened by what differs between views of one image. https://arxiv.org/abs/2312.04000"""

from collections.abc import Iterator

from schemas.protocols.label_free import LiDAR
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: LiDAR, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: LiDAR) -> str:
    raise NotImplementedError
