"""Error on test images that are corrupted on the fly, 15 kinds in five severities, beside that of a baseline: mean corruption error. https://arxiv.org/abs/1903.12261"""

from collections.abc import Iterator

from schemas.protocols.robustness import Corruptions
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Corruptions, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Corruptions) -> str:
    raise NotImplementedError
