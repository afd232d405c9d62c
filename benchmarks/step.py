"""A whole training step on a CPU, from JPEG files to updated weights: images a second, against lightly on the same machine.

    python benchmarks/step.py --data FOLDER --peer-python ENV/bin/python [--methods simclr dino] [--rounds 3] [--out benchmarks/step.json]

ENV is an environment with the peers:
`uv venv ENV && uv pip install --python ENV/bin/python lightly==1.6.0 lightly-train==0.18.0 timm`. FOLDER holds JPEG files in class
folders, such as CIFAR-10's. Same images, encoder, widths of heads, batch, optimizer and sizes of views; the views are each library's own
transform of that name. Each measurement is a process of its own, ours and the peer's in turns; the median of the rounds counts. Ours
decodes the files once, before the first step; what that costs is reported beside, and counted in `ratio_first_epoch`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import CONVNET, VIT, decoded, finish, machine

BATCH, STEPS, WARMUP = 64, 40, 10
CONV_METHODS = ("simclr", "moco_v2", "byol", "simsiam", "barlow_twins", "vicreg", "swav")
VIT_METHODS = ("dino", "ibot", "mae")
SIZES = {"hidden": 512, "output": 128, "prototypes": 1024, "bottleneck": 128, "queue": 4096}
DECODER = {"width": 64, "depth": 2, "heads": 4}
PEERS = Path(__file__).parent / "peers"
LIGHTLY_TRAIN_METHODS = ("dino",)
"""What LightlyTrain is asked for too; its SimCLR fails on the ConvNet of three stages, and it has no other of these methods."""


def ours(kind: str, folder: Path) -> dict[str, Any]:
    """Train some steps with sslflow, in this process."""
    import torch

    from schemas import methods as configs
    from schemas.shapes import kinds
    from schemas.training import AdamW, Train
    from ssl_tasks.methods import build
    from ssl_tasks.nn.encoder import TimmEncoder
    from ssl_tasks.tracking import Silent
    from ssl_tasks.train import fit

    began = time.perf_counter()
    images, _ = decoded(folder, 10**9)
    decoding = len(images) / (time.perf_counter() - began)
    member = kinds(configs.Method)[kind]
    sizes = {**SIZES, **{f"decoder_{name}": value for name, value in DECODER.items()}}
    changed: dict[str, Any] = {name: value for name, value in sizes.items() if name in member.model_fields}
    if kind == "swav":
        changed["queue"] = 0
    views = {"local_count": 6, "local_size": 16} if member.model_fields["views"].default.local_count else {}
    torch.manual_seed(0)
    method = build(member.model_validate({**changed, "views": views}), TimmEncoder(VIT if kind in VIT_METHODS else CONVNET))
    epochs = (STEPS + WARMUP) / (len(images) // BATCH)
    settings = Train(epochs=epochs, batch_size=BATCH, optimizer=AdamW(learning_rate=1e-3, weight_decay=0.05), checkpoint_steps=10**6)
    with tempfile.TemporaryDirectory() as work:
        learner = fit(method, images, settings, seed=0, workdir=Path(work), tracker=Silent())
    return {"images_per_second": learner.images_per_second(BATCH), "decoded_per_second": decoding}


def theirs(python: Path, script: str, kind: str, folder: Path) -> dict[str, Any]:
    """Train with a peer, in a process of its own; with lightly as many steps."""
    encoder = VIT if kind in VIT_METHODS else CONVNET
    spec = {
        **SIZES,
        **{"size": 32, "local_size": 16, "batch": BATCH, "steps": STEPS, "warmup": WARMUP, "threads": machine()["cores"]},
        "encoder": encoder.model_dump(mode="json"),
        "decoder": DECODER,
    }
    return process([str(python), "-W", "ignore", str(PEERS / script), kind, str(folder), json.dumps(spec)])


def process(command: list[str]) -> dict[str, Any]:
    """The JSON that a command prints last."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--methods", nargs="*", default=[*CONV_METHODS, *VIT_METHODS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(ours(options.ours, options.data)))
        return
    if not options.peer_python:
        parser.error("--peer-python is needed")
    rows = {}
    for kind in options.methods:
        rounds = []
        for _ in range(options.rounds):
            own = process([sys.executable, __file__, "--data", str(options.data), "--ours", kind])
            rounds.append((own, theirs(options.peer_python, "lightly_step.py", kind, options.data)))
        own, peer = (statistics.median(r[side]["images_per_second"] for r in rounds) for side in (0, 1))
        decoded_per_second = statistics.median(r[0]["decoded_per_second"] for r in rounds)
        rows[kind] = {
            "encoder": "vit" if kind in VIT_METHODS else "convnet",
            "sslflow": round(own, 1),
            "lightly": round(peer, 1),
            "ratio": round(own / peer, 2),
            "ratio_first_epoch": round(1 / (1 / own + 1 / decoded_per_second) / peer, 2),
            "rounds": [[round(r[side]["images_per_second"], 1) for side in (0, 1)] for r in rounds],
        }
        if kind in LIGHTLY_TRAIN_METHODS:
            rows[kind]["lightly_train"] = round(theirs(options.peer_python, "lightly_train_step.py", kind, options.data)["images_per_second"], 1)
        print(kind, json.dumps(rows[kind]), file=sys.stderr)
        versions = rounds[0][1]["versions"]
    finish({"batch": BATCH, "steps": STEPS, "peer": versions, "machine": machine(), "images_per_second": rows}, options.out)


if __name__ == "__main__":
    main()
