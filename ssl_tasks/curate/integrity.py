"""Quarantine what cannot be read, or is too small, too large, too long or too empty to be a picture."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.curation import Integrity
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data.manifest import column


def integrity(pool: Pool, config: Integrity) -> Decisions:
    """Decode every image and remove those that fail, each with one reason.

    Reasons: empty, wrong type, truncated, unreadable, too large, too small, absurd aspect, blank.
    """
    seen = pool.measures()
    reasons = faults(seen, config)
    facts = {name: column(seen, name) for name in ("contrast", "sharpness")}
    return Decisions(reasons != "", reasons.tolist(), facts=facts)


def faults(seen: pa.Table, config: Integrity) -> NDArray[np.str_]:
    """Of each file why it is no usable picture, by its measures, (N,); empty where it is one."""
    width, height, contrast = (seen[name].fill_null(0).to_numpy().astype(float) for name in ("width", "height", "contrast"))
    short, long, unread = np.minimum(width, height), np.maximum(width, height), column(seen, "fault").astype(str)
    by_measure = {
        "too large": short * long > config.max_pixels,
        "too small": short < config.min_side,
        "absurd aspect": long > config.max_aspect * short,
        "blank": contrast < config.min_contrast,
    }
    return np.where(unread != "", unread, np.select(list(by_measure.values()), list(by_measure), ""))
