"""What differs between two manifests: which images came in, which went out, and why.

An image is the same where its uri and its sha256 are; one uri with other bytes is a changed file, the same bytes at another uri a
moved one, so that a renamed folder is not a new pool.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssl_tasks.data.provenance import Listing

SHOWN = 12
_NEW, _GONE = "new in the raw pool", "no longer in the raw pool"


@dataclass(frozen=True)
class Group:
    """Images of which the same is to be said.

    Attributes:
        reason: why they are in now, or out.
        examples: uris of the first few.
    """

    reason: str
    count: int
    examples: list[str]


@dataclass(frozen=True)
class Changes:
    """What a manifest has that an earlier one had not, and the other way round. Only kept images count as in, of whatever split.

    Attributes:
        kept: images that are in, before and now.
        added: by the reason for which they were out before.
        dropped: by the reason for which they are out now.
        changed: in before and now, with other bytes at the same uri.
        renamed: in before and now, with the same bytes at another uri.
        resplit: in before and now, by the splits between which they were moved.
    """

    kept: tuple[int, int]
    added: list[Group]
    dropped: list[Group]
    changed: list[Group]
    renamed: list[Group]
    resplit: list[Group]

    @property
    def none(self) -> bool:
        """Whether both hold the same images in the same splits."""
        return not (self.added or self.dropped or self.changed or self.renamed or self.resplit)


def changes(now: Listing, before: Listing) -> Changes:
    """Compare two manifests."""
    new, old = (_rows(each) for each in (now, before))
    at, same_uri = _matched(new, old)
    both = np.flatnonzero(at >= 0)
    kept, was = new["kept"].to_numpy(), old["kept"].to_numpy()
    stays = both[kept[both] & was[at[both]]]
    same_bytes = pc.equal(new["sha256"].take(pa.array(stays)), old["sha256"].take(pa.array(at[stays]))).to_numpy()
    entered, left = both[kept[both] & ~was[at[both]]], both[~kept[both] & was[at[both]]]
    fresh = np.flatnonzero((at < 0) & kept)
    gone = np.setdiff1d(np.flatnonzero(was), at[both])
    splits = pc.binary_join_element_wise(old["split"].take(pa.array(at[stays])), new["split"].take(pa.array(stays)), " -> ")
    moved = pc.not_equal(new["split"].take(pa.array(stays)), old["split"].take(pa.array(at[stays]))).to_numpy()
    return Changes(
        kept=(int(was.sum()), int(kept.sum())),
        added=[*_groups(new, entered, old["why"].take(pa.array(at[entered])), "out before: "), *_group(new, fresh, _NEW)],
        dropped=[*_groups(new, left, new["why"].take(pa.array(left))), *_group(old, gone, _GONE)],
        changed=_group(new, stays[~same_bytes], "other bytes at the same uri"),
        renamed=_group(new, stays[same_bytes & ~same_uri[stays]], "the same bytes at another uri"),
        resplit=_groups(new, stays[moved], splits.filter(pa.array(moved))),
    )


def _rows(listing: Listing) -> pa.Table:
    return listing.columns("uri", "sha256", "split", "kept", "why").combine_chunks()


def _matched(new: pa.Table, old: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Of each new row the old one that is the same image, or -1, and whether they have the same uri. Each old row is matched once."""
    at = _places(new["uri"], old["uri"])
    same_uri = at >= 0
    left = np.setdiff1d(np.arange(len(old)), at)
    alone = np.flatnonzero(~same_uri)
    found = _places(new["sha256"].take(pa.array(alone)), old["sha256"].take(pa.array(left)))
    _, first = np.unique(found, return_index=True)
    first = first[found[first] >= 0]
    at[alone[first]] = left[found[first]]
    return at, same_uri


def _places(values: pa.ChunkedArray, among: pa.ChunkedArray) -> NDArray[np.int64]:
    found: NDArray[np.int64] = pc.fill_null(pc.index_in(values, value_set=among), -1).to_numpy().astype(np.int64)
    return found


def _groups(table: pa.Table, rows: NDArray[Any], reasons: pa.ChunkedArray, prefix: str = "") -> list[Group]:
    """One group a reason, the largest first."""
    counts = sorted(((entry["values"], entry["counts"]) for entry in pc.value_counts(reasons).to_pylist()), key=lambda pair: (-pair[1], pair[0]))
    return [group for reason, _ in counts for group in _group(table, rows[pc.equal(reasons, reason).to_numpy()], prefix + (reason or "no reason noted"))]


def _group(table: pa.Table, rows: NDArray[Any], reason: str) -> list[Group]:
    """One group, or none where it would be empty."""
    return [Group(reason, len(rows), table["uri"].take(pa.array(rows[:SHOWN])).to_pylist())] if len(rows) else []
