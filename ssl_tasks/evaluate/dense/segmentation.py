"""Mean IoU of a linear head on frozen patch features, at the images' own size by sliding windows. https://arxiv.org/abs/2304.07193"""

from collections.abc import Iterator

from schemas.protocols.dense import Segmentation
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Segmentation, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Segmentation) -> str:
    raise NotImplementedError
