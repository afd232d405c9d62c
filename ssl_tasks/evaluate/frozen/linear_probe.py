"""A grid of linear heads by SGD over learning rate, last blocks and pooling: DINOv2, https://arxiv.org/abs/2304.07193, appendix B.3.

All heads learn at once from one pass over frozen features, as each would alone: they share batches and first weights, and no gradient. The best
on held-out train images (of equals the first: fewest blocks, without patches, lowest rate) is trained again on all train images, and judged.
Features are those after the network's last norm, and neither normalised nor standardised.

Differs from the paper: no augmentation (the paper crops and flips at random), so that features are made once; the head is chosen on a tenth of
the train images and never on the test images (the paper's is the best on the set that it reports); the chosen one is trained again on all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from schemas.errors import UserError
from schemas.protocols.frozen import LinearProbe
from ssl_tasks.evaluate import held_out
from ssl_tasks.evaluate.findings import Finding, Number, right
from ssl_tasks.evaluate.frozen import grid_plate
from ssl_tasks.evaluate.frozen.tokens import Reader, Tokens, batches, tokens
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.probes import among_top
from ssl_tasks.evaluate.subject import Subject

MOMENTUM, SPREAD = 0.9, 0.01
"""Of SGD; standard deviation of a head's first weights."""
_BLOCK = 1024
"""Images that are scored at a time."""


@dataclass(frozen=True)
class Head:
    """Settings of a head: what it reads, and its learning rate for a batch of 256."""

    blocks: int
    average: bool
    rate: float


@dataclass(frozen=True)
class Weights:
    """Heads that read the same: which of the list they are, their weights (H, K, D) and biases (H, K)."""

    heads: list[int]
    reads: slice | Tensor
    weight: Tensor
    bias: Tensor


def judge(protocol: LinearProbe, subject: Subject) -> Iterator[Finding]:
    parts, world = subject.world.parts, subject.world
    found = tokens(subject, max(protocol.blocks))
    labels, bank = parts.labels, parts.bank
    held, fitted = held_out.split(labels[bank], world.seed)
    if not len(held):
        raise UserError("linear_probe: no class has two labelled train images, of which one could choose the head")
    heads = grid(protocol, found)
    settings = (labels, len(parts.classes), protocol.steps, protocol.batch_size, world.seed, world.device)
    chosen_on = scores(found, bank[held], train(found, bank[fitted], heads, *settings), world.device)
    accuracies = [float(right(each.argmax(1), labels[bank[held]]).mean()) for each in chosen_on]
    best = int(np.argmax(accuracies))
    [said] = scores(found, parts.queries, train(found, bank, [heads[best]], *settings), world.device)
    answers = right(said.argmax(1), labels[parts.queries])
    yield Number("accuracy", [float(answers.mean())], len(answers), answers)
    yield from among_top(np.exp(said - said.max(1, keepdims=True)), labels[parts.queries])
    if subject.is_model:
        cells = [(_told(head), f"{head.rate:g}") for head in heads]
        yield grid_plate.plate(protocol, subject, cells, accuracies, len(held))


def meaning(protocol: LinearProbe) -> str:
    rates = f"{len(protocol.learning_rates)} learning rates ({min(protocol.learning_rates):g} to {max(protocol.learning_rates):g}, x batch / 256)"
    blocks = " or ".join(map(str, protocol.blocks))
    pooling = {False: "without", True: "with"}
    return (
        f"Linear heads, all trained at once by SGD (momentum {MOMENTUM:g}, {protocol.steps:,} steps of {protocol.batch_size}, cosine to 0) on frozen features: "
        f"{rates}, CLS tokens of the last {blocks} blocks, {' or '.join(pooling[a] for a in protocol.average)} the mean patch token; of a ConvNet its "
        "pooled last stage alone. Features are not normalised, images not augmented. The head that is best on a held-out tenth of the train images "
        "is trained again on all of them."
    )


def grid(protocol: LinearProbe, found: Tokens) -> list[Head]:
    """Every head of the grid that the network has features for, each once."""
    blocks = sorted({min(count, found.blocks) for count in protocol.blocks})
    poolings = sorted(set(protocol.average)) if found.patches else [False]
    return [Head(count, average, rate) for count in blocks for average in poolings for rate in sorted(set(protocol.learning_rates))]


def train(
    found: Tokens, rows: Ints, heads: Sequence[Head], labels: Ints, classes: int, steps: int, batch_size: int, seed: int, device: str,
    dtype: torch.dtype = torch.float32,
) -> list[Weights]:  # fmt: skip
    """Heads trained side by side on features of some rows; each ends as it would alone.

    Args:
        labels: class of every row of the table.
    """
    kinds = {
        (head.blocks, head.average): [i for i, other in enumerate(heads) if other.blocks == head.blocks and other.average == head.average] for head in heads
    }
    made = [_first(found, *kind, of, classes, seed, device, dtype) for kind, of in kinds.items()]
    rates = [torch.tensor([heads[i].rate * batch_size / 256 for i in each.heads], dtype=dtype, device=device) for each in made]
    # A factor on a head's loss is one on its steps: momentum is linear, and there is no weight decay.
    optimizer = torch.optim.SGD([p for each in made for p in (each.weight, each.bias)], lr=1.0, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    reader, numbers = Reader(found.rows, rows, device, dtype), torch.from_numpy(labels[rows]).to(device)
    for positions in batches(len(rows), batch_size, steps, seed):
        x, y = reader[positions], numbers[torch.from_numpy(positions).to(device)]
        optimizer.zero_grad()
        for each, rate in zip(made, rates, strict=True):
            logits = _logits(each, x[:, each.reads])
            targets = y[:, None].expand(-1, len(each.heads))
            losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape).mean(0)
            (rate * losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return made


def scores(found: Tokens, rows: Ints, made: Sequence[Weights], device: str) -> list[Floats]:
    """Logits (Q, K) of some rows by each head, in the heads' order; a head that diverged gives 0 for all classes."""
    said: dict[int, list[Floats]] = {}
    for start in range(0, len(rows), _BLOCK):
        x = torch.from_numpy(np.ascontiguousarray(found.rows[rows[start : start + _BLOCK]])).to(device)
        for each in made:
            with torch.inference_mode():
                logits = _logits(each, x[:, each.reads].to(each.weight.dtype)).nan_to_num(0, 0, 0)
            for place, head in enumerate(each.heads):
                said.setdefault(head, []).append(logits[:, place].cpu().numpy())
    return [np.concatenate(said[head]) for head in sorted(said)]


def _first(found: Tokens, blocks: int, average: bool, heads: list[int], classes: int, seed: int, device: str, dtype: torch.dtype) -> Weights:
    """Heads before their first step: weights drawn from N(0, 0.01^2), the same for all that read the same, and biases of 0."""
    columns = found.columns(blocks, average)
    reads = columns if isinstance(columns, slice) else torch.from_numpy(columns).to(device)
    width = (blocks + average) * found.width
    drawn = SPREAD * torch.randn(classes, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weight = drawn.to(device, dtype).repeat(len(heads), 1, 1).requires_grad_()
    return Weights(heads, reads, weight, torch.zeros(len(heads), classes, dtype=dtype, device=device, requires_grad=True))


def _logits(heads: Weights, x: Tensor) -> Tensor:
    """(B, H, K) of features (B, D): one product for all heads that read the same."""
    many, classes, width = heads.weight.shape
    return (x @ heads.weight.view(many * classes, width).T).view(len(x), many, classes) + heads.bias


def _told(head: Head) -> str:
    return (
        f"last {head.blocks} blocks" * (head.blocks > 1) + "last block" * (head.blocks == 1) + ", CLS and patches" * head.average + ", CLS" * (not head.average)
    )
