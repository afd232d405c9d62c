"""Drop, or flag, train images that are near duplicates of images that models will be evaluated on.

A train image leaks where its cosine to an evaluation image is at least the threshold. Compared are the kept train images with the
kept images of the dataset's own other splits, and with those of the splits named of each dataset in `against`. Every pair, and every
evaluation image that was compared, is kept beside the manifest (`ssl_tasks/data/leaks.py`).

Differs from DINOv2 (Oquab et al., 2023, https://arxiv.org/abs/2304.07193, appendix A), which joins train and evaluation images into
one graph and drops whole components: there an image also goes that is like a leaking image without being like an evaluation image.
Here each image answers for itself, so that a chain cannot take a part of the pool along; a lower threshold casts the net as wide
(theirs is 0.45 here and 0.6 for duplicates, of a copy detector).

An image whose vector has no direction, as that of equal pixels, is like no other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.curation import Leakage
from schemas.errors import UserError
from schemas.stages import Curate
from ssl_tasks.curate.calibrate import calibrated
from ssl_tasks.curate.decisions import NOBODY, Decisions
from ssl_tasks.curate.neighbours import Near, near
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data import leaks, manifest

NEIGHBOURS = 64
"""Pairs of one image that are looked at."""


@dataclass(frozen=True)
class Evaluated:
    """Images that models are evaluated on: kept rows of one split of a dataset.

    Attributes:
        key: of the dataset; of the one that is being made where the split is its own.
    """

    key: str
    name: str
    split: str
    rows: pa.Table

    @property
    def title(self) -> str:
        """How a person calls it."""
        return f"{self.name} {self.split}"


def leakage(pool: Pool, config: Leakage) -> Decisions:
    """Train images that leak, with the evaluation image that each is most like.

    Raises:
        UserError: where there is nothing to compare with, an image cannot be decoded, or no threshold has the precision asked for.
    """
    sets = list(evaluated(pool, config))
    vectors = pool.embeddings(config.embedding)
    threshold, calibration = calibrated(pool, config, vectors)
    most, where, of = np.full(len(vectors), -1, np.float32), np.zeros(len(vectors), np.int64), np.full(len(vectors), NOBODY)
    metrics: dict[str, float] = {"threshold": threshold}
    told, notes = [], []
    for number, each in enumerate(sets):
        pairs = near(vectors, threshold, NEIGHBOURS, seed=pool.seed, bank=pool.embeddings(config.embedding, each.rows))
        leaks.add(pool.payload, *_tables(pool, config, each, pairs, threshold))
        best = np.full(len(vectors), -1, np.float32)
        np.maximum.at(best, pairs.rows, pairs.cosines)
        own = pairs.cosines == best[pairs.rows]
        answer = np.full(len(vectors), NOBODY)
        answer[pairs.rows[own][::-1]] = each.rows["id"].to_numpy()[pairs.others[own][::-1]]  # the first of equally near ones
        nearer = best > most
        most[nearer], where[nearer], of[nearer] = best[nearer], number, answer[nearer] if each.name == pool.job.name else NOBODY
        counts = {"train_images": len(np.unique(pairs.rows)), "evaluated_images": len(np.unique(pairs.others)), "pairs": len(pairs.rows)}
        metrics |= {f"{each.name}.{each.split}.{key}": float(value) for key, value in counts.items()}
        told.append({"set": each.key, "set_name": each.name, "split": each.split, "images": len(each.rows), **counts, "index": pairs.index})
        notes.append(f"{counts['train_images']:,} train images are near duplicates of {counts['evaluated_images']:,} of the {len(each.rows):,} of {each.title}")
    leaking = most >= 0
    metrics["leaking"] = float(leaking.sum())
    titles = np.array([each.title for each in sets], object)[where]
    return Decisions(
        leaking & (config.action == "drop"),
        [f"near duplicate of {title}" for title in titles],
        of,
        said={"similarity": pa.array(most, mask=~leaking), "set": pa.array(titles, mask=~leaking)},
        metrics=metrics,
        notes=notes + calibration.notes,
        report={"sets": told, "cosine": threshold, "action": config.action, **calibration.report},
    )


def evaluated(pool: Pool, config: Leakage) -> Iterator[Evaluated]:
    """The dataset's own other splits, then the splits named of each dataset in `against`.

    Raises:
        UserError: where a dataset has no image in them, or there is nothing at all.
    """
    assert isinstance(pool.job.stage, Curate)
    where = f"stages.{pool.job.name}.steps.{pool.job.stage.steps.index(config)}"
    own = pool.elsewhere()
    if not len(own) and not config.against:
        raise UserError(f"{where}: there is nothing to compare with: the dataset has the split train alone, and `against` names no other dataset")
    yield from _splits(pool.job.outputs[""], pool.job.name, own)
    for reference in config.against:
        dataset = pool.dataset(reference)
        table = manifest.read(dataset)
        named = table.filter(manifest.column(table, "kept") & np.isin(manifest.column(table, "split"), config.splits))
        if not len(named):
            raise UserError(f"{where}.against: '{reference}' keeps no image in its splits {', '.join(config.splits)}: name in `splits` those that it has")
        yield from _splits(dataset.key, reference, named)


def _splits(key: str, name: str, table: pa.Table) -> Iterator[Evaluated]:
    splits = manifest.column(table, "split")
    for split in sorted(set(splits.tolist())):
        yield Evaluated(key, name, split, table.filter(pa.array(splits == split)))


def _tables(pool: Pool, config: Leakage, against: Evaluated, pairs: Near, threshold: float) -> tuple[pa.Table, pa.Table]:
    """The pairs, and what was compared."""
    train, other = (rows.select(["id", "sha256"]).take(pa.array(places)) for rows, places in ((pool.rows, pairs.rows), (against.rows, pairs.others)))
    found = {
        "train_id": train["id"], "train_sha256": train["sha256"], **_named(against, len(pairs.rows)), "eval_id": other["id"],
        "eval_sha256": other["sha256"], "similarity": pairs.cosines, "dropped": np.full(len(pairs.rows), config.action == "drop"),
    }  # fmt: skip
    count, embedding = len(against.rows), (config.embedding or pool.measured).model_dump_json()
    checked = {
        **_named(against, count), "eval_id": against.rows["id"], "eval_sha256": against.rows["sha256"],
        "threshold": np.full(count, threshold), "embedding": [embedding] * count,
    }  # fmt: skip
    return pa.table(found), pa.table(checked)


def _named(against: Evaluated, count: int) -> dict[str, Any]:
    return {
        "set": pa.array([against.key] * count, pa.string()),
        "set_name": pa.array([against.name] * count, pa.string()),
        "split": pa.array([against.split] * count, pa.string()),
    }
