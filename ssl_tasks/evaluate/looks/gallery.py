"""Test images and their nearest train images."""

from collections.abc import Iterator

from schemas.protocols.looks import Gallery
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.looks.shown import called
from ssl_tasks.evaluate.report import neighbourhoods
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Gallery, subject: Subject) -> Iterator[Plate]:
    world = subject.world
    near = neighbourhoods.nearest(subject.features, world.parts, world.device)
    name, title = called("gallery", subject), f"Nearest neighbours: {subject.name}"
    yield neighbourhoods.plate(name, title, subject.name, near, world.parts, world.job.workspace, world.seed, protocol.queries)


def meaning(protocol: Gallery) -> str:
    return (
        f"{protocol.queries} test images and the {neighbourhoods.NEIGHBOURS} train images whose features are nearest to theirs by cosine. Half of the images "
        "are drawn at random, half are those with the most neighbours of another class."
    )
