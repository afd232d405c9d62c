"""The images of an evaluation as annotations know them."""

from typing import Protocol

from schemas.errors import UserError
from ssl_tasks.data import manifest
from ssl_tasks.data.annotations.pictures import Pictures
from ssl_tasks.evaluate.neighbours import Ints
from ssl_tasks.evaluate.world import World


def pictures(world: World) -> Pictures:
    """The images of the table at their own size, by their row."""
    return Pictures(world.table, world.job.workspace, manifest.read(world.dataset)["uri"].to_pylist())


class Known(Protocol):
    """Annotations of which one can ask whether an image has any."""

    def has(self, row: int) -> bool:
        """Whether an image is annotated."""


def sides(known: Known, world: World, what: str) -> tuple[Ints, Ints]:
    """Rows that a head is trained on, the annotated ones of the train split; and the test images.

    Args:
        what: an image lacks that is not annotated.

    Raises:
        UserError: where no train image is annotated, or a test image is not.
    """
    train, tested = world.parts.train, world.parts.queries
    trained: Ints = train[[known.has(row) for row in train.tolist()]]
    if not len(trained):
        raise UserError(f"none of the {len(train):,} train images has a {what}, such as {pictures(world).place(int(train[0]))}: annotations are found by path")
    lacking = [row for row in tested.tolist() if not known.has(row)]
    if lacking:
        first = pictures(world).place(lacking[0])
        raise UserError(f"{len(lacking):,} of {len(tested):,} test images have no {what}, such as {first}: annotate them, or keep them out of the test split")
    return trained, tested
