"""How the cost of a training step grows with the batch, the number of crops and the encoder: seconds and memory, as a table.

    python benchmarks/cost.py [--out benchmarks/cost.json]

Each row is a process of its own, so that its peak of memory is its own: the process's resident memory above that after its imports on a
CPU, the allocator's on CUDA. Images are random; they are augmented as in a training.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = {"tiny": {"width": 96, "depth": 4, "heads": 3}, "small": {"width": 192, "depth": 6, "heads": 3}, "medium": {"width": 384, "depth": 8, "heads": 6}}
ROWS = [
    *({"batch": batch} for batch in (32, 64, 128, 256)),
    *({"local_count": count} for count in (0, 2, 4, 8)),
    *({"encoder": name} for name in SIZES),
    *({"accumulate": pieces} for pieces in (2, 4)),
    {"activation_checkpointing": True},
]
BASE = {"batch": 64, "local_count": 4, "encoder": "tiny", "accumulate": 1, "activation_checkpointing": False}


def measured(row: dict[str, Any]) -> dict[str, float]:
    """Seconds a step and peak of memory of DINO with the settings of a row."""
    import numpy as np
    import torch
    from common import VIT

    from schemas.methods import DINO
    from schemas.training import Train
    from schemas.views import Views
    from ssl_tasks.methods import build
    from ssl_tasks.nn.encoder import TimmEncoder
    from ssl_tasks.tracking import Silent
    from ssl_tasks.train import fit

    device = "cuda" if torch.cuda.is_available() else "cpu"
    locals_ = {"local_count": row["local_count"], "local_size": 16} if row["local_count"] else {}
    config = DINO(prototypes=1024, hidden=512, bottleneck=128, views=Views(**locals_))
    encoder = TimmEncoder(VIT.model_copy(update=SIZES[row["encoder"]]))
    images = np.random.default_rng(0).integers(0, 256, (8 * row["batch"], 3, 32, 32), np.uint8)
    settings = Train(
        epochs=1, batch_size=row["batch"], accumulate=row["accumulate"], activation_checkpointing=row["activation_checkpointing"], checkpoint_steps=10**6
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        learner = fit(build(config, encoder), images, settings, seed=0, workdir=Path(folder), tracker=Silent(), device=device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else (peak - before) / 1024
    return {"seconds_a_step": round(row["batch"] / learner.images_per_second(row["batch"]), 3), "memory_mb": round(memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measured(json.loads(options.row))))
        return
    from common import finish, machine

    table = []
    for changed in ROWS:
        row = {**BASE, **changed}
        began = time.perf_counter()
        done = subprocess.run([sys.executable, __file__, "--row", json.dumps(row)], capture_output=True, text=True, check=True)
        table.append({**row, **json.loads(done.stdout.splitlines()[-1])})
        print(table[-1], f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
    finish({"method": "dino", "base": BASE, "machine": machine(), "rows": table}, options.out)


if __name__ == "__main__":
    main()
