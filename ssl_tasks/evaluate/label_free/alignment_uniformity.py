"""How near two views of an image lie on the sphere, and how evenly images cover it. https://arxiv.org/abs/2005.10242"""

from collections.abc import Iterator

from schemas.protocols.label_free import AlignmentUniformity
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: AlignmentUniformity, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: AlignmentUniformity) -> str:
    raise NotImplementedError
