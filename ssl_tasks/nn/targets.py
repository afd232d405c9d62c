"""Targets: what a teacher's prototype logits become before a student learns them."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from schemas.distillers import DINOv2Students
from schemas.methods.self_distillation import SelfDistillation
from ssl_tasks.distributed import gather, rank, world_size
from ssl_tasks.losses.self_distillation import center_and_sharpen
from ssl_tasks.losses.sinkhorn import sinkhorn
from ssl_tasks.schedules import linear


class Targets(nn.Module):
    """Distributions of a teacher's logits: centred or balanced, and sharpened by a temperature that warms up.

    Attributes:
        center: running mean (K,) of the raw logits; untouched where Sinkhorn-Knopp balances.
    """

    center: Tensor

    def __init__(self, config: SelfDistillation | DINOv2Students, prototypes: int, temperature: float) -> None:
        super().__init__()
        self.config, self.final_temperature = config, temperature
        self.register_buffer("center", torch.zeros(prototypes))

    def forward(self, logits: Tensor, progress: float) -> Tensor:
        """Distributions (B, K) of logits (B, K); B may differ between processes. Balanced over all processes' rows."""
        temperature = self.temperature(progress)
        if self.config.centering == "center":
            return center_and_sharpen(logits, self.center, temperature)
        everyone, own = _all_rows(logits)
        return sinkhorn(everyone, temperature)[own]

    @torch.no_grad()
    def move(self, logits: Tensor) -> None:
        """center <- m center + (1 - m) mean of the raw logits (B, K), over all processes (DINO, equation 4)."""
        if self.config.centering == "center":
            rows = gather(torch.full((1, 1), len(logits), dtype=self.center.dtype, device=self.center.device)).sum()
            total = gather(logits.to(self.center.dtype).sum(dim=0, keepdim=True)).sum(dim=0)
            self.center.lerp_(total / rows, 1 - self.config.center_momentum)

    def temperature(self, progress: float) -> float:
        """Moves linearly from its start to its final value, then stays."""
        warmup = self.config.teacher_temperature_warmup
        risen = min(progress / warmup, 1.0) if warmup else 1.0
        return linear(risen, self.config.teacher_temperature_start, self.final_temperature)


def _all_rows(rows: Tensor) -> tuple[Tensor, slice]:
    """Rows (B, K) of every process, of which each may have another number, and which of them are this process's."""
    if world_size() == 1:
        return rows, slice(None)
    counts = gather(torch.tensor([len(rows)], device=rows.device)).tolist()
    padded = gather(pad(rows, (0, 0, 0, max(counts) - len(rows)))).view(len(counts), max(counts), -1)
    before = sum(counts[: rank()])
    return torch.cat([part[:count] for part, count in zip(padded, counts, strict=True)]), slice(before, before + len(rows))
