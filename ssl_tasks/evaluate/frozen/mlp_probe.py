"""A head of two layers on frozen features; it stops where held-out train images stop to improve."""

from collections.abc import Iterator

from schemas.protocols.frozen import MLPProbe
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: MLPProbe, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: MLPProbe) -> str:
    raise NotImplementedError
