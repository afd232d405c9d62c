"""A grid of linear heads by SGD over learning rate, last blocks and pooling, all on one pass; the best on held-out train images is reported. https://arxiv.org/abs/2304.07193"""

from collections.abc import Iterator

from schemas.protocols.frozen import LinearProbe
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: LinearProbe, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: LinearProbe) -> str:
    raise NotImplementedError
