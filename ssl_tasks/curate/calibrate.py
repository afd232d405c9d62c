"""Calibrate: choose the cosine from which two images are near duplicates, on copies of the pool's own images.

Of a sample of the pool's images copies are made by known edits (`edits.CALIBRATION`) and each is looked up in the pool. Its
original is a true answer. Any other image of the pool is a false one, unless it may itself be a copy of the original: images whose
perceptual hash lies within `ALIKE` bits of the original's, or of one of the copies', are left out. The hashes see nothing of the
embedding, so what is judged has no say in who judges it; a duplicate that they miss counts as false, which errs towards a higher
threshold.

Precision at a threshold is the share of true answers among all pairs of a copy and a pool image whose cosine is at least that. So
false answers come as often as in the pool, whatever its size, and for true ones it stands as if each image had one copy there: in a
pool with fewer duplicates, the share of copies among the pairs that are found is lower. Chosen is the lowest cosine that has the
precision, which finds the most copies, among those with 1 / (1 - precision) true pairs or more: fewer cannot tell. How many copies of
each edit it finds is in the report.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from schemas.curation import Deduplicate, Leakage
from schemas.errors import UserError
from schemas.stages import Curate
from ssl_tasks.curate.indexes import Ints, Vectors
from ssl_tasks.curate.neighbours import cosine, nearest
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data import edits, manifest
from ssl_tasks.data.containers import place
from ssl_tasks.data.store import parallel, read_listed

LARGEST = 512
"""Longer side, in pixels, to which an image is shrunk before it is edited."""
STRETCH = 128
"""Images whose copies lie on disk at a time."""
FALSE = 16
"""Nearest images in the pool that are looked at for each copy."""
ALIKE = 10
"""Bits of 64 within which two perceptual hashes may be those of copies."""
POINTS = 200
"""Of the curve in the report."""


@dataclass(frozen=True)
class Pairs:
    """Copies and what the pool answers to them.

    Attributes:
        true: (C,), cosine of each copy and its original.
        edit: (C,), number of the edit that made it.
        false: (F,), cosines of copies and pool images that are no copies.
    """

    true: NDArray[np.float32]
    edit: Ints
    false: NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """What `calibrated` has to tell: lines for a person, and `calibration` for the report; nothing where the threshold was given."""

    notes: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)


def calibrated(pool: Pool, config: Deduplicate | Leakage, vectors: Vectors) -> tuple[float, Calibration]:
    """The threshold of a step, as given or as chosen on copies of the pool's images.

    Args:
        vectors: (N, dim), of the pool's rows.

    Raises:
        UserError: where no threshold has the precision.
    """
    if isinstance(config.threshold, float):
        return config.threshold, Calibration()
    wanted = config.threshold.precision
    chosen = np.sort(np.random.default_rng((pool.seed, 1)).choice(len(vectors), min(len(vectors), config.threshold.copies), replace=False))
    chosen = chosen[vectors[chosen].any(1)]
    pairs = answers(pool, config, vectors, chosen)
    threshold, precision, recall = curve(pairs)
    told = recall * len(pairs.true) >= 1 / (1 - wanted)  # of so many pairs one may be false
    if precision[told].max(initial=0) < wanted:
        raise _unreached(pool, config, wanted, len(pairs.true), threshold[told], precision[told], recall[told])
    place = int(np.flatnonzero(told & (precision >= wanted))[0])
    found = {name: float((pairs.true[pairs.edit == number] >= threshold[place]).mean()) for number, name in enumerate(edits.CALIBRATION)}
    some = np.unique(np.r_[np.linspace(0, len(threshold) - 1, POINTS).round().astype(int), place])
    note = (
        f"threshold {threshold[place]:.4f}: {precision[place]:.2%} of the pairs above it are copies, and it finds {recall[place]:.0%} of "
        f"{len(pairs.true):,} copies of {len(chosen):,} images ({', '.join(f'{name} {share:.0%}' for name, share in found.items())})"
    )
    report = {
        "threshold": threshold[some].tolist(), "precision": precision[some].tolist(), "recall": recall[some].tolist(),
        "chosen": float(threshold[place]), "wanted": wanted, "images": len(chosen), "copies": len(pairs.true), "edits": found,
    }  # fmt: skip
    return float(threshold[place]), Calibration([note], {"calibration": report})


def curve(pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """At each positive cosine of a true pair, ascending: precision and recall of all pairs from there on."""
    threshold = np.unique(pairs.true[pairs.true > 0])
    true = len(pairs.true) - np.searchsorted(np.sort(pairs.true), threshold)
    false = len(pairs.false) - np.searchsorted(np.sort(pairs.false), threshold)
    return threshold.astype(np.float64), true / (true + false), true / max(1, len(pairs.true))


def answers(pool: Pool, config: Deduplicate | Leakage, vectors: Vectors, chosen: Ints) -> Pairs:
    """What the pool answers to copies of the chosen rows."""
    hashes = _hashes(pool.pictures())
    true, edit, false = [], [], []
    for stretch in np.array_split(chosen, range(STRETCH, len(chosen), STRETCH)):
        with copies(pool, stretch) as table:
            made = pool.embeddings(config.embedding, table)
            looks = _hashes(pool.pictures(table))
        of = np.repeat(np.arange(len(stretch)), len(edits.CALIBRATION))
        true.append(cosine(made, np.arange(len(made)), vectors, stretch[of]))
        edit.append(np.tile(np.arange(len(edits.CALIBRATION)), len(stretch)))
        answer, cosines = nearest(made, vectors, FALSE)
        alike = np.concatenate([hashes[stretch][:, None], looks.reshape(len(stretch), -1, 2)], axis=1)
        bits = np.bitwise_count(hashes[answer][:, :, None] ^ alike[of][:, None]).min((2, 3))
        false.append(cosines[(answer != stretch[of][:, None]) & (bits > ALIKE)])
    return Pairs(np.concatenate(true), np.concatenate(edit), np.concatenate(false))


@contextmanager
def copies(pool: Pool, rows: Ints) -> Iterator[pa.Table]:
    """Copies of rows of the pool by each edit of `CALIBRATION` in turn, as a manifest of PNG files that are gone afterwards.

    Raises:
        UserError: where an image cannot be decoded, or has channels that are not those of grey or RGB.
    """
    names, workspace = list(edits.CALIBRATION), pool.job.workspace
    listed = pool.rows.take(pa.array(rows)).select(["id", "uri", "sha256"]).to_pylist()
    pool.job.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".copies-", dir=pool.job.cache) as folder:

        def made(row: dict[str, Any]) -> list[dict[str, Any]]:
            image = read_listed(row["uri"], row["sha256"], workspace)
            if not isinstance(image, Image.Image):
                where = place(row["uri"], workspace)
                raise UserError(f"image {where} is neither grey nor RGB, so no copies of it can be made: give `threshold` a number instead of a precision")
            image.thumbnail((LARGEST, LARGEST), Image.Resampling.BICUBIC)
            found = []
            for name in names:
                copy, path = edits.copy(image, name, pool.seed, row["id"]), Path(folder) / f"{row['id']}-{name}.png"
                copy.save(path, compress_level=1)
                data = path.read_bytes()
                size = {"bytes": len(data), "width": copy.width, "height": copy.height, "mode": copy.mode}
                found.append({"uri": str(path), "sha256": hashlib.sha256(data).hexdigest(), **size, "label": None, "split": "train"})
            return found

        yield manifest.build([copy for copies in parallel(made, listed) for copy in copies])


def _hashes(seen: pa.Table) -> NDArray[np.uint64]:
    """The two perceptual hashes of each image, (N, 2)."""
    return np.stack([manifest.column(seen, name).astype(np.uint64) for name in ("phash", "dhash")], axis=1)


def _unreached(pool: Pool, config: Deduplicate | Leakage, wanted: float, copies: int, *curves: NDArray[np.float64]) -> UserError:
    assert isinstance(pool.job.stage, Curate)
    where = f"stages.{pool.job.name}.steps.{pool.job.stage.steps.index(config)}.threshold"
    if not len(curves[0]):
        return UserError(
            f"{where}: a precision of {wanted:g} takes {1 / (1 - wanted):.0f} copies that are like their originals, and of {copies:,} there are fewer: "
            "more `copies` or images, another embedding, or a number"
        )
    at = int(curves[1].argmax())
    threshold, precision, recall = (curve[at] for curve in curves)
    return UserError(
        f"{where}: no cosine reaches a precision of {wanted:g} on copies of the pool's images; the best is {precision:.4f}, at {threshold:.4f}, which "
        f"finds {recall:.0%} of them: ask for less, give a number, or take an embedding that tells copies apart"
    )
