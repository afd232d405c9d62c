"""The bytes of an image, wherever its `uri` says that they are.

- `pool/cat/1.jpg`: a file, absolute or relative to the workspace.
- `tar://0001.jpg::shards/0.tar`: a member of a tar shard, its name percent-encoded.
- `parquet://12/image::data/0.parquet`, `arrow://12/image::data/0.arrow`: a row (from 0) and a column, percent-encoded.
- `s3://bucket/pool/1.jpg`: at an address. So may containers be: `tar://0001.jpg::s3://bucket/0.tar`.

Nothing is unpacked. What lies at an address is downloaded once, into the workspace's cache.
"""

from pathlib import Path
from urllib.parse import quote, unquote

from schemas.sources import is_address
from ssl_tasks.data import folder

KINDS = ("tar", "parquet", "arrow")


def read_bytes(uri: str, workspace: Path, stamp: str = "") -> bytes:
    """The bytes of one image's file.

    Args:
        uri: as in a manifest.
        stamp: of what is wanted, where the uri is an address; see `remote.fetch`.

    Raises:
        OSError: where it cannot be read.
        UserError: where a container is damaged, or what lies at an address cannot be reached.
    """
    kind, inner, outer = parted(uri)
    if not kind:
        return local(uri, workspace, stamp).read_bytes()
    path = local(outer, workspace, stamp)
    if kind == "tar":
        from ssl_tasks.data import tars

        return tars.read(path, inner)
    from ssl_tasks.data import tables

    row, column = inner.split("/")
    read = tables.read_parquet if kind == "parquet" else tables.read_arrow
    return read(path, int(row), unquote(column))


def place(uri: str, workspace: Path) -> str:
    """Where an image lies, for a person."""
    kind, inner, outer = parted(uri)
    if kind:
        what = unquote(inner) if kind == "tar" else "row {}, column {}".format(*map(unquote, inner.split("/")))
        return f"{what} in {place(outer, workspace)}"
    return uri if is_address(uri) else str(workspace / uri)


def local(uri: str, workspace: Path, stamp: str = "") -> Path:
    """The file on disk for a path or an address, downloaded unless it lies in the cache."""
    if not is_address(uri):
        return workspace / uri
    from ssl_tasks.data import remote

    return remote.fetch(uri, workspace, stamp)


def listed(uri: str, workspace: Path) -> str:
    """The uri of a file as a manifest has it: relative to the workspace, or absolute where it lies outside; symlinks stay as they are."""
    return uri if is_address(uri) else folder.relative(uri, workspace)


def member(name: str, container: str) -> str:
    """The uri of a member of a tar shard; `name` is percent-encoded."""
    return f"tar://{name}::{container}"


def cell(kind: str, row: int, column: str, container: str) -> str:
    """The uri of a cell of a table; `kind` is parquet or arrow."""
    return f"{kind}://{row}/{quote(column, safe='')}::{container}"


def parted(uri: str) -> tuple[str, str, str]:
    """Kind of container, place in it, and where it lies itself; two empty texts and the uri for an image in none."""
    kind, _, rest = uri.partition("://")
    if kind not in KINDS or not rest:
        return "", "", uri
    inner, _, outer = rest.partition("::")
    return kind, inner, outer
