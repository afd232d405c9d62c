"""A head of two layers on frozen features, for classes that are there but not linearly; it stops where held-out train images stop to improve.

Features are standardised by mean and deviation of the images that are trained on. Of every learning rate the weights of its best epoch on a
held-out tenth of the train images count, and of these the best (by accuracy; of equals by cross-entropy). They are judged as they are: unlike the
linear probes, the head is not trained again on all train images, as it could not know when to stop.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from schemas.errors import UserError
from schemas.protocols.frozen import MLPProbe
from ssl_tasks.evaluate import held_out
from ssl_tasks.evaluate.findings import Number, right
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.probes import among_top
from ssl_tasks.evaluate.subject import Subject

_BLOCK = 4096
"""Images that are scored at a time."""
WIDEST = 2048
"""Units of a hidden layer at most: raw pixels of 32 x 32 have 3,072 dimensions."""
_EPSILON = 1e-6
"""Added to a deviation, as some dimensions of a feature may be constant."""


@dataclass(frozen=True)
class Best:
    """A head as it was after its best epoch; `score` is (accuracy, -cross-entropy) on held-out images, `epoch` counts from 1."""

    head: nn.Module
    score: tuple[float, float]
    epoch: int


def judge(protocol: MLPProbe, subject: Subject) -> Iterator[Number]:
    x, parts, world = subject.features, subject.world.parts, subject.world
    labels, bank = parts.labels, parts.bank
    held, fitted = held_out.split(labels[bank], world.seed)
    if not len(held):
        raise UserError("mlp_probe: no class has two labelled train images, of which one could tell when to stop")
    trained = [
        train(x[bank[fitted]], labels[bank[fitted]], x[bank[held]], labels[bank[held]], len(parts.classes), rate, protocol, world.seed, world.device)
        for rate in protocol.learning_rates
    ]
    best = max(trained, key=lambda each: each.score)
    said, wanted = scores(best.head, x[parts.queries], world.device), labels[parts.queries]
    found = right(said.argmax(1), wanted)
    yield Number("accuracy", [float(found.mean())], len(found), found)
    yield from among_top(said, wanted)


def meaning(protocol: MLPProbe) -> str:
    rates = ", ".join(f"{rate:g}" for rate in protocol.learning_rates)
    return (
        f"A head with one hidden layer ({protocol.width:g} times as wide as the features, at most {WIDEST:,} units, GELU, dropout {protocol.dropout:g}) on "
        f"standardised frozen features, by AdamW (learning rates {rates}), at most {protocol.epochs} epochs. A tenth of the train "
        f"images is held out: training stops after {protocol.patience} epochs that are no better on them, and the epoch and rate that are best on them count."
    )


def train(x: Floats, y: Ints, held_x: Floats, held_y: Ints, classes: int, rate: float, protocol: MLPProbe, seed: int, device: str) -> Best:
    """A head trained until held-out images no longer improve.

    Args:
        x, y: features (N, D) and classes (N,) that are trained on; `held_x`, `held_y` those that are not.
        rate: of AdamW, constant.
    """
    order, count = np.random.default_rng(seed), len(x)
    with torch.random.fork_rng([torch.device(device)] if device != "cpu" else [], device_type="cuda"):
        torch.manual_seed(seed)
        head = mlp(x, classes, protocol).to(device)
        optimizer = torch.optim.AdamW(head[1:].parameters(), lr=rate)
        best = Best(head, (-1.0, 0.0), 0)
        for epoch in range(1, protocol.epochs + 1):
            head.train()
            for rows in np.array_split(order.permutation(count), -(-count // protocol.batch_size)):
                optimizer.zero_grad()
                cross_entropy(head(_tensor(x[rows], device)), _tensor(y[rows], device)).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            said = torch.from_numpy(scores(head, held_x, device, logits=True))
            accuracy = float((said.argmax(1).numpy() == held_y).mean())
            score = accuracy, -float(cross_entropy(said, torch.from_numpy(held_y)).nan_to_num(torch.inf))
            if score > best.score:
                best = Best(deepcopy(head), score, epoch)
            if epoch - best.epoch >= protocol.patience:
                break
    return best


def mlp(x: Floats, classes: int, protocol: MLPProbe) -> nn.Sequential:
    """The head before its first step; what standardises features is its first layer, and not trained."""
    dim = x.shape[1]
    hidden = min(WIDEST, max(1, round(protocol.width * dim)))
    return nn.Sequential(Standard(x), nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(protocol.dropout), nn.Linear(hidden, classes))


class Standard(nn.Module):
    """Features (B, D) less the mean and over the deviation of those (N, D) that are trained on."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, x: Floats) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(x.mean(0, dtype=np.float64)).float())
        self.register_buffer("deviation", torch.from_numpy(x.std(0, dtype=np.float64) + _EPSILON).float())

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


@torch.inference_mode()
def scores(head: nn.Module, x: Floats, device: str, logits: bool = False) -> Floats:
    """Probabilities (N, K) of features (N, D), or their logits."""
    head.eval()
    said = torch.cat([head(_tensor(x[i : i + _BLOCK], device)).double().cpu() for i in range(0, len(x), _BLOCK)])
    return (said if logits else said.softmax(1)).numpy()


def _tensor(rows: Floats | Ints, device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows)).to(device)
