"""Quarantine what cannot be read, or is too small, too large, too long or too empty to be a picture."""

import numpy as np
import pyarrow as pa

from schemas.curation import Integrity
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data.manifest import column


def integrity(pool: Pool, config: Integrity) -> Decisions:
    """Decode every image and remove those that fail, each with one reason.

    Reasons: empty, wrong type, truncated, unreadable, too large, too small, absurd aspect, blank.
    """
    seen = pool.measures()
    reasons = np.array([fault(row, config) for row in seen.select(["fault", "width", "height", "contrast"]).to_pylist()], object)
    facts = {name: column(seen, name) for name in ("contrast", "sharpness")}
    return Decisions(reasons.astype(bool), reasons.tolist(), facts=facts)


def fault(seen: dict[str, pa.Scalar], config: Integrity) -> str:
    """Why a file is no usable picture, by its measures; empty where it is one."""
    if seen["fault"]:
        return str(seen["fault"])
    short, long = sorted((seen["width"], seen["height"]))
    if short * long > config.max_pixels:
        return "too large"
    if short < config.min_side:
        return "too small"
    if long > config.max_aspect * short:
        return "absurd aspect"
    return "blank" if seen["contrast"] < config.min_contrast else ""
