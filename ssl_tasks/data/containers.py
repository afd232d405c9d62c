"""The bytes of an image, wherever its `uri` says that they are."""

from pathlib import Path


def read_bytes(uri: str, workspace: Path) -> bytes:
    """The bytes of one image's file.

    Args:
        uri: as in a manifest: a path, absolute or relative to `workspace`.

    Raises:
        OSError: where it cannot be read.
    """
    return (workspace / uri).read_bytes()


def place(uri: str, workspace: Path) -> str:
    """Where an image lies, for a person."""
    return str(workspace / uri)
