"""COCO-style AP of torchvision's Faster R-CNN, or Mask R-CNN where masks are annotated, on the encoder. https://arxiv.org/abs/1703.06870"""

from collections.abc import Iterator

from schemas.protocols.dense import Detection
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Detection, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Detection) -> str:
    raise NotImplementedError
