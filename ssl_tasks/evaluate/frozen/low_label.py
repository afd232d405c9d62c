"""Logistic regression on a share of the labels, averaged over random draws of them. https://arxiv.org/abs/2002.05709"""

from collections.abc import Iterator

from schemas.protocols.frozen import LowLabel
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: LowLabel, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: LowLabel) -> str:
    raise NotImplementedError
