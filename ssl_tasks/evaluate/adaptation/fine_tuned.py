"""Accuracy after the encoder, or a part of it, is trained on the labelled train split: full, LoRA, progressive unfreezing or LP-FT. https://arxiv.org/abs/2111.06377"""

from collections.abc import Iterator

from schemas.protocols.adaptation import FineTuned
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: FineTuned, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: FineTuned) -> str:
    raise NotImplementedError
