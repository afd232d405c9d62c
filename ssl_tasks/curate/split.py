"""Set kept train images aside as val and test, whole groups at a time, so that near duplicates never lie on both sides.

Groups are components of the graph of near duplicates, or images of one value in a column of the manifest; an image without a value
is a group of its own. They stand in a random order that depends on their images' content alone: an image that is added joins or
moves its own group, and few others change sides.

The rule, for test, then for val among what is left: go through the groups, and take each that brings both the total and the
numbers of images per label closer to the wanted share (the latter by the sum of squared differences). Then, for as long as one
brings the sum of all these squares down, add the group, give back the one or exchange the two that do best.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from schemas.curation import Split
from schemas.errors import UserError, did_you_mean
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.deduplicate import component_of
from ssl_tasks.curate.pool import Pool

NEIGHBOURS = 64
TRAIN = "train"
MOVES = 2000
"""Groups that are added, given back or exchanged at most."""
EXCHANGED = 32
"""Groups on either side that are tried for an exchange."""
LEAST = 1e-6
"""By which a move must bring the sum of squares down."""


def split(pool: Pool, config: Split) -> Decisions:
    """Give each row its split; images of other splits stay where they are.

    Raises:
        UserError: where there is no such column to group by.
    """
    groups = grouped(pool, config)
    labelled = config.stratify and pool.rows["label"].null_count < len(pool.rows)
    labels, names = values(pool.rows["label"]) if labelled else (np.zeros(len(groups), np.int64), [""])
    labels = np.where(labels < 0, len(names), labels)
    members = counted(groups, labels, len(names) + 1)
    sizes = np.bincount(groups)
    left = in_order(groups, pool.rows["sha256"].to_pylist(), pool.seed)
    sides = np.full(len(sizes), TRAIN, object)
    notes = []
    for side, share in (("test", config.test), ("val", config.val)):
        if share == 0:
            continue
        wanted = share * members.sum(0)
        taken = take(members[left], wanted)
        sides[left[taken]] = side
        left = left[~taken]
        if not taken.any():
            notes.append(f"no image is set aside as `{side}: {share:g}`: every group is larger than twice that")
        if len(large := sizes[left][sizes[left] > wanted[-1]]):
            notes.append(f"groups larger than `{side}: {share:g}` ({wanted[-1]:.0f} images) stay whole: {len(large)}, the largest of {large.max()} images")
    splits = sides[groups]
    metrics = {f"{side}_share": float((splits == side).mean()) for side in ("val", "test")}
    metrics |= {"groups": len(sizes), "largest_group": int(sizes.max())}
    report: dict[str, Any] = {}
    if labelled:
        table = {side: np.bincount(labels[splits == side], minlength=len(names) + 1)[: len(names)].tolist() for side in (TRAIN, "val", "test")}
        report = {"labels": {str(name): {side: table[side][place] for side in table} for place, name in enumerate(names)}}
    said = {"group": groups.astype(np.int32), "group_size": sizes[groups].astype(np.int32)}
    return Decisions(np.zeros(len(groups), bool), splits=splits.tolist(), said=said, metrics=metrics, notes=notes, report=report)


def grouped(pool: Pool, config: Split) -> NDArray[np.int64]:
    """The number of each row's group, from 0, by the place of its first row."""
    if config.by == "near_duplicates":
        points = pool.embeddings(config.embedding)
        groups = component_of(points, config.threshold, NEIGHBOURS)[0].astype(np.int64)
    elif config.by in pool.rows.column_names:
        groups = values(pool.rows[config.by])[0]
        alone = np.flatnonzero(groups < 0)
        groups[alone] = len(groups) + alone
    else:
        hint = did_you_mean(config.by, ["near_duplicates", *pool.rows.column_names]) or f"there are: near_duplicates, {', '.join(pool.rows.column_names)}"
        raise UserError(f"stages.{pool.job.name}: `split` by '{config.by}': no such column of the manifest; {hint}")
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def values(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[Any]]:
    """The number of each row's value, -1 where there is none; and the values, sorted."""
    known = pc.unique(column.drop_null()).sort()
    numbers: NDArray[np.int64] = pc.fill_null(pc.index_in(column, value_set=known), -1).to_numpy().astype(np.int64)
    return numbers, known.to_pylist()


def in_order(groups: NDArray[np.int64], sha256: Sequence[str], seed: int) -> NDArray[np.int64]:
    """The groups by the least hash of the seed and one of their images."""
    key = seed.to_bytes(16, "little")
    hashes = np.array([int.from_bytes(blake2b(of.encode(), digest_size=8, key=key).digest(), "little") for of in sha256], np.uint64)
    rows = np.lexsort((hashes, groups))
    least = hashes[rows[np.flatnonzero(np.diff(groups[rows], prepend=-1))]]
    return np.argsort(least, kind="stable")


def counted(groups: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> csr_array:
    """Of each group how many images each of `count` labels has, and how many it has in all: (G, count + 1)."""
    ones, width = np.ones(2 * len(groups)), np.full(len(groups), count)
    of = coo_array((ones, (np.r_[groups, groups], np.r_[labels, width])), shape=(int(groups.max()) + 1, count + 1))
    return of.tocsr()


def take(members: csr_array, wanted: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which groups are taken, by the rule above; (G,).

    Args:
        members: images of each label, and in all, of each group, (G, L + 1).
        wanted: the same of the side that takes them, (L + 1,).
    """
    missing: list[float] = wanted.tolist()
    taken = np.zeros(members.shape[0], bool)
    ends, columns, numbers = members.indptr.tolist(), members.indices.tolist(), members.data.tolist()
    for group in range(len(taken)):
        *labels, all_ = [(columns[place], numbers[place]) for place in range(ends[group], ends[group + 1])]
        if all_[1] < 2 * missing[-1] and sum(number * (number - 2 * missing[label]) for label, number in labels) < 0:
            taken[group] = True
            for label, number in (*labels, all_):
                missing[label] -= number
    refine(members, np.array(missing), taken)
    return taken


def refine(members: csr_array, missing: NDArray[np.float64], taken: NDArray[np.bool_]) -> None:
    """Add, give back or exchange groups while that brings the sum of squares of what is missing down, in place."""
    squares = members.multiply(members).sum(1)
    for _ in range(MOVES):
        toward = 2 * (members @ missing)
        adds, backs = np.where(taken, np.inf, squares - toward), np.where(taken, squares + toward, np.inf)
        add, back = int(adds.argmin()), int(backs.argmin())
        if adds[add] < -LEAST:
            moved = [add]
        elif backs[back] < -LEAST:
            moved = [back]
        else:
            some = min(EXCHANGED, len(taken)) - 1
            these, those = np.sort(np.argpartition(adds, some)[: some + 1]), np.sort(np.argpartition(backs, some)[: some + 1])
            both = adds[these][:, None] + backs[those] - 2 * (members[these] @ members[those].T).toarray()
            one, other = np.unravel_index(both.argmin(), both.shape)
            if not both[one, other] < -LEAST:
                return
            moved = [int(these[one]), int(those[other])]
        for group in moved:
            missing += (1 if taken[group] else -1) * members[[group]].toarray()[0]
            taken[group] = not taken[group]
