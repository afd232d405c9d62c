"""Training steps with LightlyTrain, for `benchmarks/step.py`: run by the Python of an environment that has lightly-train.

    python lightly_train_step.py METHOD FOLDER SPEC_JSON   ->   {"images_per_second": ..., "versions": {...}}

It has one call for a whole training, so the speed is taken from two trainings of different length: what the longer one has more of, over
the time that it takes longer. Views, heads and optimizer are LightlyTrain's own for the method; encoder, batch and crop sizes are the spec's.
"""

import contextlib
import io
import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightly_train
import timm
import torch
from lightly_step import convnet, vit

EPOCHS = (1, 3)


def trained(method: str, folder: str, spec: dict[str, Any], epochs: int) -> float:
    """Seconds that a training takes."""
    torch.manual_seed(0)
    model = vit(spec["encoder"]) if method == "dino" else convnet(spec["encoder"])
    views: dict[str, Any] = {"image_size": (spec["size"], spec["size"])}
    if method == "dino":
        views["local_view"] = {"num_views": 6, "view_size": (spec["local_size"], spec["local_size"])}
    heads = {"hidden_dim": spec["hidden"], "bottleneck_dim": spec["bottleneck"], "output_dim": spec["prototypes"]} if method == "dino" else None
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        lightly_train.pretrain(
            out=f"{out}/run",
            data=folder,
            model=model,
            method=method,
            method_args=heads,
            epochs=epochs,
            batch_size=spec["batch"],
            num_workers=spec["threads"],
            devices=1,
            accelerator="cpu",
            precision="32-true",
            transform_args=views,
        )
    return time.perf_counter() - began


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    method, folder, spec = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    torch.set_num_threads(spec["threads"])
    with contextlib.redirect_stdout(io.StringIO()):
        short, long = (trained(method, folder, spec, epochs) for epochs in EPOCHS)
    batches = sum(1 for _ in Path(folder).rglob("*.jpg")) // spec["batch"]
    images = (EPOCHS[1] - EPOCHS[0]) * batches * spec["batch"]
    versions = {"lightly_train": lightly_train.__version__, "torch": torch.__version__, "timm": timm.__version__}
    print(json.dumps({"images_per_second": images / (long - short), "versions": versions}))


if __name__ == "__main__":
    main()
