"""The images in the plane, near where their features are near, coloured by class. https://jmlr.org/papers/v9/vandermaaten08a.html"""

from collections.abc import Iterator

from schemas.protocols.looks import EmbeddingMap
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.looks.shown import called, finite
from ssl_tasks.evaluate.report import figures, plane
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: EmbeddingMap, subject: Subject) -> Iterator[Plate]:
    parts, seed = subject.world.parts, subject.world.seed
    rows = plane.sample(parts, seed, protocol.samples)
    maps = {subject.name: plane.places(finite(subject.features[rows]), seed, protocol.by)}
    labels, classes = parts.labels[rows], parts.classes
    caption, title = f"{subject.name}: {plane.caption(parts, len(rows), protocol.by)}", f"Map: {subject.name}"
    yield Plate(called(f"map-{protocol.by}", subject), "looks", title, caption, lambda theme: figures.embedding_map(maps, labels, classes, theme))


def meaning(protocol: EmbeddingMap) -> str:
    return f"{plane.NAMES[protocol.by]} lays out the L2-normalised features of up to {protocol.samples:,} images in the plane; it is told no classes."
