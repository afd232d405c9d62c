"""Test images look for images of their class: mAP and recall@k of the ranking by cosine. https://arxiv.org/abs/1803.11285"""

from collections.abc import Iterator

from schemas.protocols.grouping import Retrieval
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Retrieval, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Retrieval) -> str:
    raise NotImplementedError
