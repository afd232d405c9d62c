"""The first three principal components of patch features as red, green and blue, over several images at once. https://arxiv.org/abs/2304.07193"""

from collections.abc import Iterator

from schemas.protocols.looks import PatchPCA
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: PatchPCA, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: PatchPCA) -> str:
    raise NotImplementedError
