"""Keep one image of each set with equal decoded pixels, whatever the file format."""

import numpy as np

from schemas.curation import ExactDuplicates
from ssl_tasks.curate.decisions import NOBODY, Decisions, representatives
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data.manifest import among, column


def exact_duplicates(pool: Pool, _config: ExactDuplicates) -> Decisions:
    """Of rows with equal pixels keep the one with the lowest id.

    Of those that are kept it is counted how many are equal to an image of another split: which of the two must go is for
    `leakage`.

    Raises:
        UserError: where an image gives no picture, or is not what the manifest lists.
    """
    digests = column(pool.pictures(), "digest")
    others = column(pool.pictures(pool.elsewhere()), "digest")
    stands = representatives(digests)
    removed = stands != np.arange(len(stands))
    leaked = int(among(digests[~removed], others).sum())
    notes = [f"train images equal to an image of another split: {leaked}"] if leaked else []
    kept = np.where(removed, pool.ids[stands], NOBODY)
    return Decisions(removed, "equal pixels", kept, metrics={"equal_to_other_split": leaked}, notes=notes)
