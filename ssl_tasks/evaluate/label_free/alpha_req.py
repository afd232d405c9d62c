"""alpha-ReQ: the power by which the eigenvalues of the features' covariance decay; near 1 is desired. https://arxiv.org/abs/2202.05808"""

from collections.abc import Iterator

from schemas.protocols.label_free import AlphaReQ
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: AlphaReQ, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: AlphaReQ) -> str:
    raise NotImplementedError
