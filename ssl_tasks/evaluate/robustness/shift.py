"""A probe fitted here and judged on another data set of the same classes: accuracy there, and what is lost. https://arxiv.org/abs/1902.10811"""

from collections.abc import Iterator

from schemas.protocols.robustness import Shift
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Shift, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Shift) -> str:
    raise NotImplementedError
