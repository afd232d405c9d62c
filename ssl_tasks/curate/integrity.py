"""Quarantine what cannot be read, or is too small, too large or too long to be a picture."""

from pathlib import Path

import pyarrow as pa

from schemas.curation import Integrity
from ssl_tasks.curate.decisions import Decisions, Removed
from ssl_tasks.data.images import Unreadable, open_image
from ssl_tasks.data.store import parallel


def integrity(table: pa.Table, config: Integrity, workspace: Path) -> Decisions:
    """Decode every image and remove those that fail, each with one reason.

    Reasons: empty, wrong type, truncated, unreadable, too large, too small, absurd aspect.
    """
    reasons = parallel(lambda uri: fault(workspace / uri, config), table["uri"].to_pylist())
    return Decisions([Removed(id_, reason) for id_, reason in zip(table["id"].to_pylist(), reasons, strict=True) if reason])


def fault(path: Path, config: Integrity) -> str:
    """Why the file is no usable picture; empty where it is one."""
    try:
        image = open_image(path, config.max_pixels)
    except Unreadable as error:
        return error.reason
    if min(image.size) < config.min_side:
        return "too small"
    return "absurd aspect" if max(image.size) > config.max_aspect * min(image.size) else ""
