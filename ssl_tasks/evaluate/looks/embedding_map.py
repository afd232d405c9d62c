"""The images in the plane, near where their features are near, coloured by class. https://jmlr.org/papers/v9/vandermaaten08a.html"""

from collections.abc import Iterator

from schemas.protocols.looks import EmbeddingMap
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: EmbeddingMap, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: EmbeddingMap) -> str:
    raise NotImplementedError
