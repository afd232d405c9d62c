"""Which classes are taken for which: the confusion matrix of a probe, or of the model's own head."""

from collections.abc import Iterator

from schemas.protocols.looks import Confusion
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Confusion, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Confusion) -> str:
    raise NotImplementedError
