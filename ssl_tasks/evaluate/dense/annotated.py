"""The images of an evaluation as annotations know them."""

from ssl_tasks.data import manifest
from ssl_tasks.data.annotations.pictures import Pictures
from ssl_tasks.evaluate.world import World


def pictures(world: World) -> Pictures:
    """The images of the table at their own size, by their row."""
    return Pictures(world.table, world.job.workspace, manifest.read(world.dataset)["uri"].to_pylist())
