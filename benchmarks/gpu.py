"""One GPU: CIFAR-10 from start to final k-NN, and training throughput at 224 px. Needs CUDA, and says so where there is none.

    python benchmarks/gpu.py cifar --data FOLDER [--methods simclr byol ...] [--epochs 200] [--out benchmarks/gpu_cifar.json]
    python benchmarks/gpu.py throughput [--data FOLDER_OF_LARGE_IMAGES] [--out benchmarks/gpu_throughput.json]

`cifar` is lightly's benchmark (https://docs.lightly.ai/self-supervised-learning/getting_started/benchmarks.html): ResNet-18 with a 3x3
stem at 32 px, batch 512, 200 epochs, k-NN with k = 200 and T = 0.1 on the last epoch's features, where its table is of the best epoch. All
methods with a row in that table are trained, in its order of time; a row is written as soon as it is there. Its SimCLR took 87.1 minutes
on an A6000. `throughput` is Barlow Twins with ViT-S/16 at 224 px, batch 256 (stable-pretraining publishes 870.9 images/s with
augmentation on the GPU), and DINOv2 with ViT-S/14 and 2 x 224 + 8 x 98 px crops. Model FLOP/s are counted by
torch.utils.flop_counter in one forward and backward of the method, and set against the rate of an 8192^3 bf16 product measured here.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import decoded, finish, machine
from torch.utils.flop_counter import FlopCounterMode

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.shapes import kinds
from schemas.training import SGD, AdamW, Train
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import MEAN_STD
from ssl_tasks.evaluate.frozen.knn import knn
from ssl_tasks.methods import build
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import features
from ssl_tasks.tracking import Silent
from ssl_tasks.train import fit

RESNET18 = Encoder(name="resnet18", image_size=32, stem="cifar")
CIFAR: dict[str, dict[str, Any]] = {
    "simclr": {"temperature": 0.5, "hidden": 512},
    "simsiam": {},
    "nnclr": {"hidden": 2048, "output": 256, "queue": 8192},
    "swav": {"prototypes": 512, "views": {"local_count": 0}},
    "byol": {"hidden": 1024, "output": 256},
    "dino": {"prototypes": 2048, "views": {"local_count": 0}},
    "moco_v2": {"temperature": 0.1, "momentum": 0.99, "queue": 8192, "hidden": 512},
    "barlow_twins": {"hidden": 2048, "output": 2048},
}
"""What lightly's benchmark sets for 32 px; the views lose their blur there, as it does."""
PUBLISHED = {"simclr": 0.848, "simsiam": 0.764, "nnclr": 0.815, "swav": 0.842, "byol": 0.868, "dino": 0.813, "moco_v2": 0.847, "barlow_twins": 0.819}
"""Its table, batch 512 and 200 epochs."""
THROUGHPUT: dict[str, tuple[dict[str, Any], Encoder, int]] = {
    "barlow_twins": ({}, Encoder(name="vit_small_patch16_224"), 256),
    "dinov2": ({"views": {"local_count": 8, "local_size": 98}}, Encoder(name="vit_small_patch14_dinov2", image_size=224), 128),
}


def method_of(kind: str, changed: dict[str, Any], encoder: Encoder, seed: int, images: int) -> Any:
    """A freshly initialised method."""
    torch.manual_seed(seed)
    return build(kinds(configs.Method)[kind].model_validate({"kind": kind, **changed}), TimmEncoder(encoder), images=images)


def peak() -> float:
    """FLOP/s of a large bf16 product on this card."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(5):
        a @ a
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - began)


def flops(method: Any, side: int) -> float:
    """FLOPs of forward and backward of one image."""
    method = method.cuda().train()
    images = torch.randint(0, 256, (8, 3, side, side), dtype=torch.uint8, device="cuda")
    views = method.views(images, Draw(torch.Generator("cuda").manual_seed(0), 8))
    with FlopCounterMode(display=False) as counter, torch.autocast("cuda", torch.bfloat16):
        terms: dict[str, torch.Tensor] = method(views, 0.5)
        torch.stack(list(terms.values())).sum().backward()
    return counter.get_total_flops() / 8


def share_of_views(method: Any, images: Any, batch: int, seconds_a_step: float) -> float:
    """Share of a step that making the views takes."""
    generator = torch.Generator("cuda").manual_seed(0)
    data = torch.from_numpy(np.array(images[:batch])).cuda()
    for i in range(12):
        if i == 2:
            torch.cuda.synchronize()
            began = time.perf_counter()
        method.views(data, Draw(generator, batch))
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / 10 / seconds_a_step


def trained(method: Any, images: Any, settings: Train, seed: int) -> tuple[Any, float]:
    """The learner, and seconds from the first step to the last."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        learner = fit(method, images, settings, seed=seed, workdir=Path(folder), tracker=Silent(), device="cuda")
        torch.cuda.synchronize()
    return learner, time.perf_counter() - began


def speed(learner: Any, method: Any, images: Any, batch: int, side: int) -> dict[str, float]:
    """Images a second, and where the time goes."""
    rate = learner.images_per_second(batch)
    model, card = flops(method, side), peak()
    return {
        "images_per_second": round(rate, 1),
        "model_tflops": round(model * rate / 1e12, 1),
        "card_bf16_tflops": round(card / 1e12, 1),
        "utilisation": round(model * rate / card, 3),
        "share_of_views": round(share_of_views(method, images, batch, batch / rate), 3),
        "memory_gb": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }


def cifar(options: argparse.Namespace) -> dict[str, Any]:
    """Each method from JPEG files to its k-NN."""
    rows: dict[str, Any] = {}
    for kind in options.methods:
        began = time.perf_counter()
        train, test = (decoded(options.data / split, 10**9) for split in ("train", "test"))
        decoding = time.perf_counter() - began
        optimizer = AdamW(learning_rate=5e-4, weight_decay=0.04) if kind == "dino" else SGD(learning_rate=0.06 * 512 / 128, weight_decay=5e-4)
        settings = Train(epochs=options.epochs, batch_size=512, optimizer=optimizer, warmup=0.05, checkpoint_steps=10**6)
        changed = CIFAR.get(kind, {})
        method = method_of(kind, {**changed, "views": {**changed.get("views", {}), "blur": 0.0}}, RESNET18, options.seed, len(train[0]))
        learner, seconds = trained(method, train[0], settings, options.seed)
        bank, queries = (features(method.exported(), images, *MEAN_STD[3], device="cuda") for images, _ in (train, test))
        accuracy = knn(bank, train[1], queries, test[1], 200, 0.1, "cuda").mean()
        minutes = (time.perf_counter() - began) / 60
        rows[kind] = {
            "knn": round(float(accuracy), 4),
            "published": PUBLISHED.get(kind),
            "minutes": round(minutes, 2),
            "decoding_seconds": round(decoding, 1),
            "training_seconds": round(seconds, 1),
        }
        rows[kind] |= speed(learner, method, train[0], 512, 32)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1) + "\n")
    return {"epochs": options.epochs, "seed": options.seed, "methods": rows}


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    """Images a second at 224 px, of random pixels and of real images where a folder is given."""
    rows = {}
    for kind, (changed, encoder, batch) in THROUGHPUT.items():
        sources = {"synthetic": np.random.default_rng(0).integers(0, 256, (40 * batch, 3, 256, 256), np.uint8)}
        if options.data:
            sources["real"] = decoded(options.data, 40 * batch, side=256)[0]
        for name, images in sources.items():
            method = method_of(kind, changed, encoder, 0, len(images))
            learner, _ = trained(method, images, Train(epochs=2, batch_size=batch, checkpoint_steps=10**6), 0)
            rows[f"{kind} {name}"] = {"batch": batch, **speed(learner, method, images, batch, 256)}
    return {"methods": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cifar", "throughput"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--methods", nargs="*", default=list(CIFAR))
    parser.add_argument("--epochs", type=float, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: nothing was measured; run this command on a machine with an NVIDIA GPU")
    if options.what == "cifar" and not options.data:
        parser.error("cifar needs --data, a folder with train/CLASS/* and test/CLASS/*")
    found = cifar(options) if options.what == "cifar" else throughput(options)
    finish({**found, "machine": machine()}, options.out)


if __name__ == "__main__":
    main()
