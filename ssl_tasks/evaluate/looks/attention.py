"""Where the last block's heads look: attention from the CLS token to the patches, a map a head. https://arxiv.org/abs/2104.14294"""

from collections.abc import Iterator

from schemas.protocols.looks import Attention
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Attention, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Attention) -> str:
    raise NotImplementedError
