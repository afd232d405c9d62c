"""Edited copies of test images look for their originals among distractors: mAP, micro-AP and recall at 90% precision. https://arxiv.org/abs/2106.09672"""

from collections.abc import Iterator

from schemas.protocols.grouping import CopyDetection
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: CopyDetection, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: CopyDetection) -> str:
    raise NotImplementedError
