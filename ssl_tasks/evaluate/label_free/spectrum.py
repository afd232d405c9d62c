"""Dimensional collapse: the singular values of the features' covariance, at the backbone and where it can be told at the projector. https://arxiv.org/abs/2110.09348"""

from collections.abc import Iterator

from schemas.protocols.label_free import Spectrum
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Spectrum, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Spectrum) -> str:
    raise NotImplementedError
