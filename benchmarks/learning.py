"""Does every method learn, and what does it take? k-NN and linear accuracy on real images after the same small budget, against random
initialisation, with the CPU seconds of a step and the memory that training takes.

    python benchmarks/learning.py --data FOLDER [--methods simclr dino] [--seeds 0 1] [--out benchmarks/learning.json]

FOLDER has `train/CLASS/*` and `test/CLASS/*`, such as CIFAR-10 as JPEG files. Every method gets the same images, the same number of
epochs, a small ConvNet or ViT, AdamW, and views that fit 32 px; its own parameters are its paper's but for the widths of its heads
(`HEADS`) and what `MOMENTUM` says of a short training. Numbers are of the last epoch: nothing is chosen by test labels. A row is written as
soon as it is there, so that an interrupted benchmark goes on where it stopped. Each training is a process of its own with one thread:
CPU seconds hang little on what else runs, and memory is what the process holds at most above what it held before the first step.
"""

import argparse
import ctypes
import json
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from common import CONVNET, decoded, finish, machine
from common import VIT as LARGER_VIT

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.shapes import kinds
from schemas.stages import Tokenizer
from schemas.training import AdamW, Train
from schemas.views import Views
from ssl_tasks.data.views import MEAN_STD
from ssl_tasks.evaluate.frozen.knn import knn
from ssl_tasks.evaluate.frozen.linear import linear
from ssl_tasks.measures import effective_rank
from ssl_tasks.methods import build
from ssl_tasks.nn.dvae import DVAE
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.nn.features import features
from ssl_tasks.tokenizer.tokenizing import Tokenizing
from ssl_tasks.tracking import Silent
from ssl_tasks.train import fit

HEADS = {
    **{"hidden": 512, "output": 128, "prototypes": 256, "bottleneck": 128, "queue": 768},
    **{"local_hidden": 512, "local_output": 128},
    **{"patch_hidden": 512, "patch_prototypes": 256, "patch_bottleneck": 128},
    **{"decoder_width": 64, "decoder_depth": 2, "decoder_heads": 4},
    **{"branch": 128, "permutations": 100},
    **{"patches": 3, "steps": 2},
    **{"dimension": 32, "slice_size": 64, "clusters": 100, "granularities": (50, 100, 200)},
    **{"predictor_hidden": 512, "negatives": 768, "negatives_rate": 0.04, "dim": 32},
    **{"target_blocks": 2, "masks": 4, "predictor_width": 32, "predictor_depth": 2, "predictor_heads": 2},
}
"""Sizes of heads, for encoders of 128 and 96 dimensions; the papers' are for 384 to 2,048. CPC's patches are of 16 px: seven a side, as in its
paper, would be of 8 px and make a step fifteen times as long as SimCLR's."""
VIT = LARGER_VIT.model_copy(update={"width": 64, "heads": 2})
MILDER: dict[str, dict[str, float]] = {"swav": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}}
"""Halved strength of colour, as SimCLR's authors have it on CIFAR-10: with its ImageNet colours SwAV stands at ln K after this budget, its
views of an image too unlike for its codes to agree."""
SWIN = Encoder(
    name="swin_tiny_patch4_window7_224",
    image_size=32,
    options={"patch_size": 2, "window_size": 4, "embed_dim": 24, "depths": [1, 1, 2], "num_heads": [1, 2, 4], "drop_path_rate": 0.0},
)
CONVNEXTV2 = Encoder(name="convnextv2_atto", image_size=32, options={"patch_size": 1, "depths": [0, 1, 1, 1], "dims": [16, 32, 64, 128]})
ENCODERS = {"convnet": CONVNET, "vit": VIT, "swin": SWIN, "convnextv2": CONVNEXTV2}
"""By the first architecture that a method asks for; the ConvNet for those that take any."""
STRENGTHS = 7
K, TEMPERATURE = 20, 0.07
BATCH = 64
WORD_EPOCHS = 10.0
"""Of the tokenizer that BEiT learns the words of, trained before on the same images; neither its time nor its memory is told."""
MOMENTUM = 0.98
"""Of a moving-average teacher at the start: the papers' .996 averages over more steps than there are here. A queue of 768 rows is 12
steps long, over which the teacher moves by a fifth, as MoCo's does over its 256 steps with .999."""


def config_of(kind: str) -> Any:
    """The method with small heads, and crops for 32 px."""
    member = kinds(configs.Method)[kind]
    changed: dict[str, Any] = {name: value for name, value in HEADS.items() if name in member.model_fields}
    if kind == "swav":
        changed["queue"] = 0  # its authors use one only where the batch is much smaller than the prototypes are many
    if kind == "instance_discrimination":
        changed["negatives"] = 0  # the exact softmax: NCE's normaliser is that of random rows, and a few hundred steps do not make up for it
    if kind == "fcmae":
        changed["decoder_depth"] = 1  # the paper's
    if "momentum" in member.model_fields and member.model_fields["momentum"].default:
        changed["momentum"] = MOMENTUM
    if "momentum_warmup" in member.model_fields:
        changed["momentum_warmup"] = 1.0  # behind it the teacher hardly moves, which is meant for hundreds of thousands of steps
    if "tokenizer" in member.model_fields:
        changed["tokenizer"] = "words"
    defaults: Views = member.model_fields["views"].default
    views: dict[str, Any] = {"blur": 0.0, "local_count": 2, "local_size": 16} if defaults.local_count else {"blur": 0.0, "scale": (0.2, 1.0)}
    views |= MILDER.get(kind, {})
    return member.model_validate({**changed, "views": views})


def tokenizer(encoder: Encoder, seed: int, images: Any) -> DVAE:
    """A tokenizer of the same images, with a word for each patch of an encoder; not part of the budget, as it is trained once for all."""
    network = {"image_size": encoder.image_size, "patch_size": encoder.patch, "vocabulary": 256, "dim": 32, "width": 32, "depth": 1}
    train = {"epochs": WORD_EPOCHS, "batch_size": BATCH, "warmup": 0.1, "optimizer": {"kind": "adamw", "learning_rate": 3e-3, "weight_decay": 1e-4}}
    config = Tokenizer.model_validate({"dataset": "images", "network": network, "train": train, "kl_weight": 1.0})
    tokenizing = Tokenizing(config, DVAE(config.network))
    with tempfile.TemporaryDirectory() as folder:
        fit(tokenizing, images, config.train, seed=seed, workdir=Path(folder), tracker=Silent())
    return tokenizing.network.eval()


def judged(encoder: TimmEncoder, train: Any, test: Any) -> dict[str, float]:
    """k-NN and linear accuracy on the test images, and the effective rank of their features."""
    bank, queries = (features(encoder, images, *MEAN_STD[3]) for images, _ in (train, test))
    return {
        "knn": round(100 * float(knn(bank, train[1], queries, test[1], K, TEMPERATURE).mean()), 2),
        "linear": round(100 * float(linear(bank, train[1], queries, test[1], STRENGTHS, seed=0).mean()), 2),
        "effective_rank": round(effective_rank(torch.from_numpy(queries)), 1),
    }


def run(kind: str, encoder: Encoder, seed: int, epochs: float, train: Any, test: Any) -> dict[str, Any]:
    """Train one method with one seed; runs in a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    config = config_of(kind)
    words = tokenizer(encoder, seed, train[0]) if "tokenizer" in config.takes else None
    torch.manual_seed(seed)
    method = build(config, TimmEncoder(encoder), images=len(train[0]), tokenizer=words)
    settings = Train(epochs=epochs, batch_size=BATCH, optimizer=AdamW(learning_rate=1e-3), warmup=0.1, clip=3.0, checkpoint_steps=10**6)
    exported: Any = method.exported()
    start = {"start": judged(exported, train, test)} if exported.config != encoder else {}
    ctypes.CDLL(None).malloc_trim(0)  # gives back what making the method took, or training would seem to take less
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    held, began, worked = resident(), time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        learner = fit(method, train[0], settings, seed=seed, workdir=Path(folder), tracker=Silent())
    worked = time.process_time() - worked
    megabytes = (resident() - held) / 1000
    return {
        **judged(exported, train, test),
        **start,
        "loss": round(learner.curve[-1]["train/loss"], 4),
        "cpu_seconds_a_step": round(worked / learner.done, 4),
        "megabytes": round(megabytes),
        "seconds": round(time.perf_counter() - began, 1),
    }


def resident() -> int:
    """The process's peak of resident memory since it was last forgotten, in kB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", nargs="*", default=list(kinds(configs.Method)))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    train, test = decoded(options.data / "train", options.images), decoded(options.data / "test", 2000)
    budget = {"images": options.images, "epochs": options.epochs, "batch": BATCH, "test_images": 2000, "k": K, "temperature": TEMPERATURE}
    result: dict[str, Any] = {"budget": budget, "machine": machine(), "random": {}, "methods": {}}
    if options.out and options.out.exists() and (before := json.loads(options.out.read_text()))["budget"] == budget:
        result = before
    for name, encoder in ENCODERS.items():
        torch.manual_seed(0)
        result["random"][name] = judged(TimmEncoder(encoder), train, test)
    for seed in options.seeds:
        for kind in options.methods:
            name = next(iter(kinds(configs.Method)[kind].architectures), "convnet")
            row = result["methods"].setdefault(kind, {"encoder": name, "seeds": {}})
            if str(seed) not in row["seeds"]:
                with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                    row["seeds"][str(seed)] = alone.submit(run, kind, ENCODERS[name], seed, options.epochs, train, test).result()
                if options.out:
                    options.out.write_text(json.dumps(result, indent=1) + "\n")
    finish(result, options.out)


if __name__ == "__main__":
    main()
