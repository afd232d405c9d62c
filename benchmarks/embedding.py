"""Embedding: images a second by threads, and what it takes to find and read the vectors of a pool that is known already.

    python benchmarks/embedding.py [--images 2000] [--side 256] [--rows 1000000] [--dim 384] [--out benchmarks/embedding.json]

`work`: images a second through the shards that curation runs, on one thread and on each core, and how many times faster that is: JPEGs
are embedded by a ResNet-18 and a ViT-S/16 at 224, shrunk to pixels, and measured. `known`: vectors as a curation leaves them, read back by
a process that knows nothing of them yet; the peak of memory is that process's, above its imports.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from common import finish, machine
from PIL import Image

from schemas.artifacts import sha256
from schemas.embeddings import File, Pixels
from schemas.encoders import Encoder
from schemas.job import Job
from schemas.stages import Curate
from ssl_tasks.curate import shards
from ssl_tasks.curate.embed import embeddings
from ssl_tasks.curate.measures import measures
from ssl_tasks.curate.vectors import table_of, vectors, vectors_of
from ssl_tasks.data.known import Known

NETWORKS = {"resnet18": 2, "vit_small_patch16_224": 16}
"""Each with how many times fewer images it gets than what needs no network."""


def photographs(folder: Path, count: int, side: int) -> pa.Table:
    """JPEGs of smooth noise, which decode about as photographs do."""
    (folder / "pool").mkdir()
    random, uris = np.random.default_rng(0), [f"pool/{number}.jpg" for number in range(count)]
    for uri in uris:
        coarse = Image.fromarray(random.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / uri, quality=90)
    return pa.table({"uri": uris, "sha256": [sha256(folder / uri) for uri in uris]})


def work(folder: Path, count: int, side: int) -> list[dict[str, Any]]:
    """Images a second of each kind of work, on one thread and on all cores."""
    import torch

    from ssl_tasks.nn.encoder import TimmEncoder

    files = photographs(folder, count, side)
    stage = Curate.model_validate({"dataset": "raw", "steps": ["integrity"]})
    job = Job(name="clean", pipeline="benchmark", stage=stage, key="key", outputs={"": "key"}, workspace=folder)

    def quiet(_done: int, _of: int) -> None:
        pass

    kinds: dict[str, tuple[int, Callable[[pa.Table], Any]]] = {
        "measures": (count, lambda rows: measures(rows, job, shards.threads, quiet)),
        "pixels": (count, lambda rows: embeddings(rows, Pixels(), job, shards.threads, quiet)),
    }
    for name, fewer in NETWORKS.items():
        torch.manual_seed(0)
        encoder = Encoder(name=name)
        torch.save(TimmEncoder(encoder).backbone.state_dict(), folder / f"{name}.pth")
        config = File(file=f"{name}.pth", encoder=encoder)
        kinds[name] = count // fewer, lambda rows, config=config: embeddings(rows, config, job, shards.threads, quiet)
    table = []
    for name, (rows, make) in kinds.items():
        make(files.slice(0, 1))
        speeds = {}
        for cores in (1, len(os.sched_getaffinity(0))):
            subprocess.run(["rm", "-rf", job.cache], check=True)
            began = time.perf_counter()
            with patch("os.sched_getaffinity", lambda _, cores=cores: set(range(cores))):
                make(files.slice(0, rows))
            speeds[cores] = rows / (time.perf_counter() - began)
        one, all_ = speeds[1], speeds[max(speeds)]
        table.append({"work": name, "images": rows, "images_per_second": round(one, 1), "on_all_cores": round(all_, 1), "times": round(all_ / one, 2)})
        print(table[-1], file=sys.stderr)
    return table


def known(folder: Path, count: int, dim: int) -> dict[str, Any]:
    """Seconds to write vectors shard by shard, and what it takes to read them."""
    kept, random, size = Known(folder / "known", vectors_of(dim)), np.random.default_rng(0), shards.LARGEST
    began = time.perf_counter()
    for start in range(0, count, size):
        names = pa.table({"sha256": hashes(start, min(start + size, count))})
        kept.add(table_of(names, random.standard_normal((len(names), dim), np.float32)))
    seconds = {"add": time.perf_counter() - began}
    line = [sys.executable, __file__, "--read", str(folder / "known"), "--rows", str(count), "--dim", str(dim)]
    read = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    began = time.perf_counter()
    kept.compact()
    seconds["compact"] = time.perf_counter() - began
    again = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    return {"rows": count, "dim": dim, **{k: round(v, 2) for k, v in seconds.items()}, "as_written": read, "compacted": again}


def read(folder: Path, count: int, dim: int) -> dict[str, Any]:
    """Seconds to see that nothing is missing and to read all vectors in another order, and the peak of memory for it."""
    asked = hashes(0, count).take(pa.array(np.random.default_rng(1).permutation(count)))
    kept = Known(folder, vectors_of(dim))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert not len(kept.missing(asked))
    looked = time.perf_counter()
    array = vectors(kept, asked)
    peak, ended = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    files = len(list(folder.glob("*.parquet")))
    return {
        "files": files, "missing_seconds": round(looked - began, 2), "vectors_seconds": round(ended - looked, 2),
        "memory_mb": round((peak - before) / 1024), "of_which_vectors_mb": round(array.nbytes / 2**20),
    }  # fmt: skip


def hashes(start: int, stop: int) -> pa.Array:
    return pa.array([hashlib.sha256(str(number).encode()).hexdigest() for number in range(start, stop)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read, options.rows, options.dim)))
        return
    with tempfile.TemporaryDirectory() as folder:
        made = {"known": known(Path(folder), options.rows, options.dim), "work": work(Path(folder), options.images, options.side)}
    finish({"machine": machine(), **made}, options.out)


if __name__ == "__main__":
    main()
