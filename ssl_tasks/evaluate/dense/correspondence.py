"""Keypoints found again in another image by nearest patches, without training: PCK. https://arxiv.org/abs/2104.14294"""

from collections.abc import Iterator

from schemas.protocols.dense import Correspondence
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Correspondence, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Correspondence) -> str:
    raise NotImplementedError
