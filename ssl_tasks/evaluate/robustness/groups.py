"""Accuracy of each class, the mean of these, the worst; and of groups of images where a file tells them. https://arxiv.org/abs/1911.08731"""

from collections.abc import Iterator

from schemas.protocols.robustness import Groups
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Groups, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Groups) -> str:
    raise NotImplementedError
