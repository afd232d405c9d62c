"""k-means on the test images' features against their classes: accuracy under the best assignment, ARI, NMI and FMI. https://arxiv.org/abs/2111.07832"""

from collections.abc import Iterator

from schemas.protocols.grouping import Clustering
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Clustering, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Clustering) -> str:
    raise NotImplementedError
