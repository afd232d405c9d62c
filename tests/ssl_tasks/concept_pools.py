"""Pools of pictures of a few concepts, and vectors of a few clusters: worlds whose clusters are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from test_curate import job_of, raw, save, smooth

from schemas.stages import Ingest
from ssl_tasks.ingest import ingest
from ssl_tasks.tracking import JSONLines


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of length 1, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def planted(sizes: list[int], noise: float = 0.3, dim: int = 16, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors around one centre a cluster, in random order, and the cluster of each."""
    random = np.random.default_rng(seed)
    of = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = unit(random.normal(size=(len(sizes), dim)))
    return unit(centres[of] + noise * random.normal(size=(len(of), dim)) / dim**0.5), of


def draw(folder: Path, sizes: list[int], first: int = 0, noise: int = 12) -> None:
    """Pictures `CONCEPT_NUMBER.png`: those of one concept are alike (cosine about 0.98), and unlike those of others."""
    for concept, size in enumerate(sizes):
        for number in range(size):
            random = np.random.default_rng((first + concept, number))
            pixels = smooth(first + concept).astype(int) + np.kron(random.integers(-noise, noise + 1, (16, 16)), np.ones((2, 2), int))
            save(np.clip(pixels, 0, 255).astype(np.uint8), folder / f"{first + concept:02d}_{number:02d}.png")


def concept_pool(workspace: Path, sizes: list[int], noise: int = 12) -> Path:
    """A raw Dataset `raw` of such pictures, without labels."""
    draw(workspace / "pool", sizes, noise=noise)
    raw(workspace)
    return workspace


def seed_set(workspace: Path, sizes: list[int], first: int = 0) -> None:
    """A further Dataset `seeds`: other pictures of the concepts from `first` on."""
    draw(workspace / "seeds", sizes, first, noise=6)
    job = job_of(Ingest.model_validate({"source": {"kind": "folder", "path": "seeds"}}), workspace, "seeds")
    ingest(job, JSONLines(job.work / "events.jsonl"))


def concepts(table: pa.Table) -> NDArray[np.int64]:
    """The concept of each row."""
    return np.array([int(Path(uri).name[:2]) for uri in table["uri"].to_pylist()])
