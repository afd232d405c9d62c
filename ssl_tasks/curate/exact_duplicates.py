"""Keep one image of each set with equal decoded pixels, whatever the file format."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from ssl_tasks.curate.decisions import Decisions, Removed, representatives
from ssl_tasks.data.images import pixel_digest
from ssl_tasks.data.store import parallel, read_listed


def exact_duplicates(ids: Sequence[int], digests: Sequence[str], elsewhere: Sequence[str]) -> Decisions:
    """Of rows with equal digests keep the one with the lowest id.

    Train images that are equal to one of another split are counted and kept: which of the two must go is not for this step.

    Args:
        digests: of each row's pixels.
        elsewhere: digests of the images of the other splits.
    """
    stands_for = representatives(digests, ids, [0] * len(ids))
    removed = [Removed(id_, "equal pixels", kept) for id_, kept in stands_for.items() if kept != id_]
    others = set(elsewhere)
    leaked = sum(digest in others for digest in digests)
    notes = [f"train images equal to an image of another split: {leaked}"] if leaked else []
    return Decisions(removed, metrics={"equal_to_other_split": leaked}, notes=notes)


def digests(table: pa.Table, workspace: Path) -> list[str]:
    """Digest of each image's decoded pixels; a file that occurs again is decoded once.

    Raises:
        UserError: where an image gives no picture, or is not what the manifest lists.
    """
    paths = dict(zip(table["sha256"].to_pylist(), table["uri"].to_pylist(), strict=True))
    found = parallel(lambda file: pixel_digest(read_listed(workspace / file[1], file[0])), list(paths.items()))
    by_file = dict(zip(paths, found, strict=True))
    return [by_file[sha256] for sha256 in table["sha256"].to_pylist()]
