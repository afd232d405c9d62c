"""Prototypes, or where a checkpoint has none the centroids of k-means, with the images nearest to them. https://arxiv.org/abs/2006.09882"""

from collections.abc import Iterator

from schemas.protocols.looks import Prototypes
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Prototypes, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Prototypes) -> str:
    raise NotImplementedError
