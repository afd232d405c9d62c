"""Masks of a video's first frame carried on by nearest patches, without training: J, F and their mean. https://arxiv.org/abs/2104.14294"""

from collections.abc import Iterator

from schemas.protocols.dense import Propagation
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Propagation, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Propagation) -> str:
    raise NotImplementedError
