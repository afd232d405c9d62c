"""Test images and their nearest train images."""

from collections.abc import Iterator

from schemas.protocols.looks import Gallery
from ssl_tasks.evaluate.findings import Finding
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Gallery, subject: Subject) -> Iterator[Finding]:
    raise NotImplementedError


def meaning(protocol: Gallery) -> str:
    raise NotImplementedError
