"""How well a score that needs no labels tells test images from those of another data set: AUROC and FPR at 95% TPR. https://arxiv.org/abs/2204.06507"""

from collections.abc import Iterator

from schemas.protocols.robustness import OutOfDistribution
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: OutOfDistribution, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: OutOfDistribution) -> str:
    raise NotImplementedError
