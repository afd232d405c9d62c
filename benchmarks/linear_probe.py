"""What it takes to judge features: the heads of a linear probe's grid together against one after another, and making the features.

    python benchmarks/linear_probe.py [--features 5000] [--width 192] [--steps 500] [--images 400] [--network vit_small_patch16_224]
        [--rounds 3] [--out benchmarks/linear_probe.json]

`heads`: 24 linear heads (six learning rates, the last one or four blocks, with and without the mean patch token) of 100 planted classes, trained
by `ssl_tasks/evaluate/frozen/linear_probe.py` all together, each alone, and each alone by a plain loop of torch.optim.SGD over the same batches;
`difference` is the largest between logits of the same head together and alone, over the largest logit. `growth` is the time of 1, 6, 12 and 24
heads together. `extraction`: images a second from the same JPEG files to pooled features, by an evaluation (first from the files, then from its
store of decoded images, and from its features on disk) and by timm.create_model with a DataLoader of one worker a core. Arms take turns; the median
of the rounds counts. Full size: --features 50000 --width 384 --steps 12500 --images 5000, on a GPU.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import timm
import torch
from common import finish, machine
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from schemas.artifacts import sha256
from schemas.encoders import Encoder
from ssl_tasks.data.files import open_images
from ssl_tasks.data.store import side_for
from ssl_tasks.evaluate import features as cached
from ssl_tasks.evaluate.frozen.linear_probe import MOMENTUM, Head, scores, train
from ssl_tasks.evaluate.frozen.tokens import Tokens, batches
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import features

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RATES, BLOCKS, CLASSES, BATCH, SEED = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2), (1, 4), 100, 128, 0
HEADS = [Head(blocks, average, rate) for blocks in BLOCKS for average in (False, True) for rate in RATES]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def timed(arms: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each arm; they take turns."""
    took: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, run in arms.items():
            began = time.perf_counter()
            run()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            took[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in took.items()}


def planted(count: int, width: int) -> tuple[Tokens, np.ndarray]:
    """Features as of a ViT's last four blocks and its patches, and their classes."""
    random = np.random.default_rng(SEED)
    labels = random.integers(0, CLASSES, count)
    rows = random.normal(size=(CLASSES, 5 * width)).astype(np.float32)[labels]
    return Tokens(rows + 2 * random.normal(size=rows.shape).astype(np.float32), width, 4, True), labels


def plain(found: Tokens, rows: np.ndarray, head: Head, labels: np.ndarray, steps: int) -> nn.Module:
    """A head as one would train it without this repository."""
    reads = found.columns(head.blocks, head.average)
    x, y = torch.from_numpy(found.rows[rows][:, reads].copy()).to(DEVICE), torch.from_numpy(labels[rows]).to(DEVICE)
    model = nn.Linear(x.shape[1], CLASSES).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=head.rate * BATCH / 256, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for batch in batches(len(rows), BATCH, steps, SEED):
        taken = torch.from_numpy(batch).to(DEVICE)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[taken]), y[taken]).backward()
        optimizer.step()
        schedule.step()
    return model


def heads(count: int, width: int, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds of the grid by each arm, whether they agree, and how the time grows with the heads."""
    found, labels = planted(count + 2000, width)
    rows, test = np.arange(count), np.arange(count, count + 2000)

    def run(some: list[Head]) -> list[np.ndarray]:
        return scores(found, test, train(found, rows, some, labels, CLASSES, steps, BATCH, SEED, DEVICE), DEVICE)

    arms = {
        "together": lambda: run(HEADS),
        "one_after_another": lambda: [run([head]) for head in HEADS],
        "plain_loop": lambda: [plain(found, rows, head, labels, steps) for head in HEADS],
    }
    took = timed(arms, rounds)
    together, alone = run(HEADS), [run([head])[0] for head in HEADS]
    accuracies = [[float((each.argmax(1) == labels[test]).mean()) for each in arm] for arm in (together, alone)]
    return {
        "seconds": {name: round(seconds, 2) for name, seconds in took.items()},
        "times_faster": {name: round(took[name] / took["together"], 2) for name in ("one_after_another", "plain_loop")},
        "difference": max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(together, alone, strict=True)),
        "accuracy": {"together": max(accuracies[0]), "one_after_another": max(accuracies[1]), "largest_gap": float(np.abs(np.subtract(*accuracies)).max())},
        "growth": {str(n): round(s, 2) for n, s in timed({n: lambda n=n: run(HEADS[:: 24 // n]) for n in (1, 6, 12, 24)}, 1).items()},
    }


class Pictures(Dataset[torch.Tensor]):
    """Image files as a plain loop reads them."""

    def __init__(self, paths: list[Path], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[row]).convert("RGB"))


def extraction(folder: Path, count: int, network: str, rounds: int) -> dict[str, Any]:
    """Images a second from files to features by each arm, of the same network with the same weights."""
    random = np.random.default_rng(SEED)
    uris = [f"{i}.jpg" for i in range(count)]
    for uri in uris:
        coarse = Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8))
        coarse.resize((400, 320), Image.Resampling.BICUBIC).save(folder / uri, quality=90)
    digests = [sha256(folder / uri) for uri in uris]
    table = pa.table({"uri": uris, "sha256": digests, "width": [400] * count, "height": [320] * count})
    encoder = TimmEncoder(Encoder(name=network, image_size=224)).to(DEVICE).eval()
    theirs = timm.create_model(network, num_classes=0).to(DEVICE).eval()
    theirs.load_state_dict(encoder.backbone.state_dict())
    side, cores = side_for(table, 224), len(os.sched_getaffinity(0))
    transform = timm.data.create_transform((3, 224, 224), mean=MEAN, std=STD, interpolation="bilinear", crop_pct=0.875)

    def ours(gigabytes: float, name: str) -> np.ndarray:
        images = open_images(table, folder, side, 3, folder / name, gigabytes)
        return features(encoder, images, MEAN, STD, device=DEVICE)

    def kept() -> np.ndarray:
        def fill(rows: np.ndarray) -> None:
            rows[:] = ours(0, "none")

        return np.array(cached.kept(folder / "kept", {"network": network}, (count, encoder.dim), fill, 20))

    @torch.inference_mode()
    def loop() -> np.ndarray:
        loader = DataLoader(Pictures([folder / uri for uri in uris], transform), batch_size=64, num_workers=cores)
        return torch.cat([theirs(batch.to(DEVICE)).cpu() for batch in loader]).numpy()

    mine, plain_ones = ours(0, "none"), loop()
    cosine = (mine * plain_ones).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(plain_ones, axis=1)
    ours(20, "store")
    kept()
    arms = {"files": lambda: ours(0, "none"), "timm_loop": loop, "store": lambda: ours(20, "store"), "kept_features": kept}
    speeds = {name: round(count / seconds, 1) for name, seconds in timed(arms, rounds).items()}
    return {"images_per_second": speeds, "cosine_to_timm_loop": round(float(cosine.min()), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=5_000)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--network", default="vit_small_patch16_224")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = {
            "machine": machine(),
            "settings": {name: value for name, value in vars(options).items() if name != "out"} | {"classes": CLASSES, "heads": len(HEADS), "batch": BATCH},
            "heads": heads(options.features, options.width, options.steps, options.rounds),
            "extraction": extraction(Path(folder), options.images, options.network, options.rounds),
        }
    finish(made, options.out)


if __name__ == "__main__":
    main()
