"""Copy detection: perceptual hashes, pixels, a generic encoder and SSCD's descriptor on copies made by held-out edits.

    python benchmarks/copies.py --data FOLDER [--images 8000] [--epochs 12] [--originals 200] [--seeds 0 1] [--out benchmarks/copies.json]

FOLDER has `train/CLASS/*` and `test/CLASS/*`, such as CIFAR-10 as JPEG files. SimCLR and SSCD train the same small ConvNet on the same
images of `train`, for as many epochs, with the same optimizer and crops. References are these images and `originals` of `test`, which
none of them has seen; queries are copies of the originals by each of the edits `HELD_OUT`, which the views of neither method are made
of, and as many copies of other images of `test`, the distractors, of which no original is among the references. Whitening is fitted to
the training images; the background of normalised scores is further images of `train`. Numbers are of the last epoch, and of each seed,
which draws images, weights and edits.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import CONVNET, finish, machine
from numpy.typing import NDArray
from PIL import Image

from schemas import methods as configs
from schemas.training import AdamW, Train
from ssl_tasks.data.edits import HELD_OUT, copy
from ssl_tasks.data.folder import listing
from ssl_tasks.data.measures import dhash, looks, phash
from ssl_tasks.data.store import centre_square
from ssl_tasks.data.views import MEAN_STD
from ssl_tasks.evaluate.grouping.average_precision import (
    cosines,
    hash_likeness,
    mean_average_precision,
    micro_average_precision,
    normalised,
    recall_at_precision,
)
from ssl_tasks.methods import build
from ssl_tasks.nn.descriptor import whitening
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import features
from ssl_tasks.tracking import Silent
from ssl_tasks.train import fit

Pictures = list[Image.Image]
Likeness = Callable[[Pictures, Pictures], NDArray[np.float32]]
"""Scores (Q, R) of queries with references."""
SIDE, BATCH = CONVNET.image_size, 128
CROPS = {"scale": (0.2, 1.0), "blur": 0.0}
"""For images of 32 px, as SimCLR's authors have them on CIFAR-10; the same for both methods."""
METHODS = {
    "generic": configs.SimCLR.model_validate({"hidden": 512, "output": 128, "views": CROPS}),
    "sscd": configs.SSCD.model_validate({"output": 128, "views": CROPS}),
}


@dataclass(frozen=True)
class World:
    """One seed's images.

    Attributes:
        pool: trained on, and references.
        originals: references of which there are copies.
        copies: by the edit that made them, one an original, then one a distractor.
        background: copies of nothing, for normalised scores.
    """

    pool: Pictures
    originals: Pictures
    copies: dict[str, Pictures]
    background: Pictures

    @property
    def references(self) -> Pictures:
        return [*self.pool, *self.originals]

    @property
    def queries(self) -> Pictures:
        return [picture for pictures in self.copies.values() for picture in pictures]

    def matches(self) -> NDArray[np.bool_]:
        """(Q, R), which reference each query is a copy of."""
        one = np.zeros((2 * len(self.originals), len(self.references)), bool)
        one[np.arange(len(self.originals)), len(self.pool) + np.arange(len(self.originals))] = True
        return np.tile(one, (len(self.copies), 1))


def world(data: Path, images: int, originals: int, background: int, seed: int) -> World:
    """The images of one seed, drawn from those of a folder."""
    train = pictures(data / "train", images + background, seed)
    test = pictures(data / "test", 2 * originals, seed)
    copies = {edit: [copy(picture, edit, seed, i) for i, picture in enumerate(test)] for edit in HELD_OUT}
    return World(train[:images], test[:originals], copies, train[images:])


def pictures(folder: Path, count: int, seed: int) -> Pictures:
    """So many random images of a folder of class folders."""
    found = listing(folder, labels=True)
    if len(found) < count:
        raise SystemExit(f"{folder} has {len(found)} images, and {count} are asked for")
    return [Image.open(found[row].path).convert("RGB") for row in np.random.default_rng(seed).permutation(len(found))[:count]]


def squares(pictures: Pictures) -> NDArray[np.uint8]:
    """As the store keeps them for an encoder: (N, 3, SIDE, SIDE)."""
    return np.stack([np.asarray(centre_square(picture, SIDE)) for picture in pictures]).transpose(0, 3, 1, 2).copy()


def hashed(kind: str) -> Likeness:
    """The share of bits in which perceptual hashes agree."""

    def hashes(pictures: Pictures) -> NDArray[np.uint64]:
        seen = [looks(picture) for picture in pictures]
        return phash(np.array([one["square"] for one in seen])) if kind == "phash" else dhash(np.array([one["strip"] for one in seen]))

    return lambda queries, references: hash_likeness(hashes(queries), hashes(references))


def pixels(queries: Pictures, references: Pictures) -> NDArray[np.float32]:
    """Cosines of grey 16 x 16 pictures less their mean: curation's embedding `pixels`."""
    q, r = (
        np.array([np.asarray(picture.convert("L").resize((16, 16), Image.Resampling.BILINEAR), np.float32).ravel() for picture in each])
        for each in (queries, references)
    )
    return cosines(q - q.mean(axis=1, keepdims=True), r - r.mean(axis=1, keepdims=True))


def by(encoder: TimmEncoder) -> Likeness:
    """Cosines of an encoder's features."""

    def embedded(pictures: Pictures) -> NDArray[np.float32]:
        return features(encoder, squares(pictures), *MEAN_STD[3])

    return lambda queries, references: cosines(embedded(queries), embedded(references))


def trained(method: configs.Method, images: NDArray[np.uint8], epochs: float, seed: int) -> TimmEncoder:
    """The encoder that a method exports."""
    torch.manual_seed(seed)
    built = build(method, TimmEncoder(CONVNET))
    settings = Train(epochs=epochs, batch_size=BATCH, optimizer=AdamW(learning_rate=1e-3), warmup=0.1, clip=3.0, checkpoint_steps=10**6)
    with tempfile.TemporaryDirectory() as folder:
        fit(built, images, settings, seed=seed, workdir=Path(folder), tracker=Silent())
    exported = built.exported()
    assert isinstance(exported, TimmEncoder)
    return exported.eval()


def whitened(encoder: TimmEncoder, images: NDArray[np.uint8]) -> TimmEncoder:
    """The encoder with a whitening fitted to the training images at its end, as the stage `whiten` makes it."""
    mean, matrix, _ = whitening(features(encoder, images, *MEAN_STD[3]), encoder.dim)
    encoder.add_whitening(torch.from_numpy(mean), torch.from_numpy(matrix))
    return encoder


def judged(likeness: Likeness, world: World) -> dict[str, Any]:
    """What a score makes of all queries; `edits` has the mAP of each edit's copies alone."""
    matches = world.matches()
    scores = likeness(world.queries, [*world.references, *world.background])
    scores, background = scores[:, : matches.shape[1]], scores[:, matches.shape[1] :]
    recall, threshold = recall_at_precision(scores, matches)
    rows = np.split(np.arange(len(scores)), len(world.copies))
    found = {
        "map": mean_average_precision(scores, matches),
        "micro_ap": micro_average_precision(scores, matches),
        "micro_ap_normalised": micro_average_precision(normalised(scores, background), matches),
        "recall_at_90": recall,
        "threshold": threshold,
    }
    edits = {edit: mean_average_precision(scores[own], matches[own]) for edit, own in zip(world.copies, rows, strict=True)}
    return {**{name: round(100 * value, 2) for name, value in found.items()}, "edits": {name: round(100 * value, 1) for name, value in edits.items()}}


def run(world: World, epochs: float, seed: int) -> dict[str, Any]:
    """Every score on one seed's images."""
    result: dict[str, Any] = {
        name: judged(likeness, world) for name, likeness in {"phash": hashed("phash"), "dhash": hashed("dhash"), "pixels": pixels}.items()
    }
    images = squares(world.pool)
    torch.manual_seed(seed)
    result["random init"] = judged(by(TimmEncoder(CONVNET).eval()), world)
    for name, method in METHODS.items():
        began = time.perf_counter()
        encoder = trained(method, images, epochs, seed)
        seconds = round(time.perf_counter() - began, 1)
        result[name] = {**judged(by(encoder), world), "train_seconds": seconds}
        result[f"{name}, whitened"] = judged(by(whitened(encoder, images)), world)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--epochs", type=float, default=12)
    parser.add_argument("--originals", type=int, default=200)
    parser.add_argument("--background", type=int, default=1000)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    budget = {
        **{name: getattr(options, name) for name in ("images", "epochs", "originals", "background")},
        **{"batch": BATCH, "side": SIDE, "encoder": CONVNET.name, "edits": list(HELD_OUT), "queries": 2 * options.originals * len(HELD_OUT)},
    }
    result: dict[str, Any] = {"budget": budget, "machine": machine(), "seeds": {}}
    for seed in options.seeds:
        images = world(options.data, options.images, options.originals, options.background, seed)
        result["seeds"][str(seed)] = run(images, options.epochs, seed)
        if options.out:
            finish(result, options.out)
    names = next(iter(result["seeds"].values()))
    measures = ("map", "micro_ap", "micro_ap_normalised", "recall_at_90")
    result["mean"] = {name: {m: round(float(np.mean([seed[name][m] for seed in result["seeds"].values()])), 2) for m in measures} for name in names}
    finish(result, options.out)


if __name__ == "__main__":
    main()
