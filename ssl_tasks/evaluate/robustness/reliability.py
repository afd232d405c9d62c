"""Calibration of a probe on frozen features, or of the model's own head: ECE, and the reliability diagram. https://arxiv.org/abs/1706.04599"""

from collections.abc import Iterator

from schemas.protocols.robustness import Reliability
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Reliability, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Reliability) -> str:
    raise NotImplementedError
