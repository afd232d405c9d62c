"""Masked images, and what a masked autoencoder's decoder makes of the visible patches. https://arxiv.org/abs/2111.06377"""

from collections.abc import Iterator

from schemas.protocols.looks import Reconstructions
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Reconstructions, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Reconstructions) -> str:
    raise NotImplementedError
