"""Folders of images as a manifest lists them."""

from pathlib import Path

import pyarrow as pa

from schemas.sources import Folder
from ssl_tasks.data import manifest, sources
from ssl_tasks.ingest import describe


def listed(workspace: Path) -> pa.Table:
    """The manifest of all images in the workspace's folder `pool`."""
    source = Folder(path="pool")
    return manifest.build([describe(file, source, workspace) for file in sources.files(source, workspace)])
