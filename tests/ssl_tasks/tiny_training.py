"""Trainings small enough for tests: images, networks, methods, a tracker that remembers, and processes to train in."""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas import methods as configs
from schemas.encoders import Encoder
from schemas.training import AdamW, Train
from schemas.views import Views
from ssl_tasks import distributed, methods
from ssl_tasks.data.draw import Draw
from ssl_tasks.learner import Learner
from ssl_tasks.method import Method, Terms
from ssl_tasks.nn.encoder import TimmEncoder
from ssl_tasks.train import fit

CONV = Encoder(name="resnetv2_18", image_size=8, channels=1, stem="half", options={"layers": [1, 1], "channels": [4, 8], "stem_chs": 4})
VIT = Encoder(name="vit_tiny_patch16_224", image_size=8, channels=1, patch_size=4, width=16, depth=1, heads=2)
VIEWS = Views(scale=(0.5, 1.0), flip=0.0, jitter=0.5, hue=0.0, saturation=0.0, grey=0.0, blur=0.0)
SIMCLR = configs.SimCLR(temperature=0.5, hidden=16, output=8, views=VIEWS)
DINO = configs.DINO(prototypes=16, hidden=16, bottleneck=8, momentum=0.99, views=VIEWS)
TRAIN = Train(epochs=4, batch_size=16, optimizer=AdamW(learning_rate=5e-4), checkpoint_steps=5, monitors=4)


def stripes(count: int = 80, side: int = 10, channels: int = 1) -> tuple[NDArray[np.uint8], list[str]]:
    """Images of four classes, told apart by the direction of their stripes, with noise, in colour the further the paler; and the classes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    waves = np.stack([np.sin(wave + phase) for wave, phase in ((y, 0), (x, 0), (x + y, 0), (x - y, 0))])
    classes = np.arange(count) % 4
    pixels = 127 + 80 * waves[classes] + rng.normal(0, 20, (count, side, side))
    tints = 1 / np.arange(1, channels + 1)
    return (pixels.clip(0, 255)[:, None] * tints[:, None, None]).astype(np.uint8), [f"class {c}" for c in classes]


class Recorder:
    """A tracker that remembers what it is told."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.points: list[tuple[int, dict[str, float]]] = []
        self.shown: list[tuple[int, int, dict[str, float]]] = []
        self.notes: list[str] = []

    def params(self, values: Mapping[str, Any]) -> None:
        self.facts |= values

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.points.append((step, dict(values)))

    def progress(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        self.shown.append((step, steps, dict(values)))

    def note(self, message: str) -> None:
        self.notes.append(message)


class Brightness(Method):
    """A method of a few numbers: a linear encoder's output is pulled to 1. Records the order in which the loop calls it."""

    def __init__(self, spoil_at: int | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(100, 1)
        self.spoil_at = spoil_at
        self.calls: list[tuple[str, float]] = []

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        return [images.float().flatten(1) / 255]

    def forward(self, views: list[Tensor], progress: float) -> Terms:
        self.calls.append(("forward", progress))
        pull = (self.layer(views[0]) - 1).square().mean()
        seen = sum(name == "forward" for name, _ in self.calls)
        return {"pull": pull, "spoilt": pull * (torch.nan if seen == self.spoil_at else 0.0)}

    def before_step(self, progress: float) -> None:
        self.calls.append(("before", progress))

    def after_step(self, progress: float) -> None:
        self.calls.append(("after", progress))

    def exported(self) -> nn.Module:
        return self.layer


def make(config: configs.Method, encoder: Encoder = CONV, seed: int = 0) -> Method:
    """A freshly initialised method."""
    torch.manual_seed(seed)
    return methods.build(config, TimmEncoder(encoder), images=len(stripes()[0]))


def train(config: configs.Method, workdir: Path, encoder: Encoder = CONV, settings: Train = TRAIN, tracker: Any = None) -> Learner:
    """Train a method on stripes, or go on doing so."""
    torch.set_num_threads(1)
    return fit(make(config, encoder), stripes()[0], settings, seed=3, workdir=workdir, tracker=tracker or Recorder())


def weights(module: nn.Module) -> dict[str, bytes]:
    """Every parameter and buffer as bytes."""
    return {name: value.detach().numpy().tobytes() for name, value in module.state_dict().items()}


def process(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """A process that runs a function, started within milliseconds from a server that has imported what trainings need."""
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ssl_tasks.train", "ssl_tasks.methods", "ssl_tasks.distill"])
    started = context.Process(target=target, args=arguments, daemon=True)
    started.start()
    return started


def ranks(count: int, target: Callable[..., None], *arguments: Any, seconds: float = 60) -> None:
    """Run a function in several processes that train together; each must end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [process(_as_rank, rank, count, port, target, *arguments) for rank in range(count)]
    deadline = time.monotonic() + seconds
    for one in started:
        one.join(deadline - time.monotonic())
    codes = [one.exitcode for one in started]
    for one in started:
        one.kill()
    assert codes == [0] * count


def _as_rank(rank: int, count: int, port: int, target: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.start()
    distributed.barrier()  # a rank that ended at once would be gone before the others have reached it
    try:
        target(*arguments)
    finally:
        distributed.stop()
