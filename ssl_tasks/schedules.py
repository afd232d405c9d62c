"""Schedules: pure functions of `progress`, the share of the training that lies behind, in [0, 1]."""

import math

from schemas.training import Train


def linear(progress: float, start: float, end: float) -> float:
    """From `start` to `end` on a straight line; outside [0, 1] the value stays at the nearer end."""
    return start + (end - start) * min(max(progress, 0.0), 1.0)


def cosine(progress: float, start: float, end: float) -> float:
    """From `start` to `end` along half a cosine: slow, fast, slow. Outside [0, 1] the value stays at the nearer end."""
    return linear((1 - math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2, start, end)


def warmed(progress: float, start: float, end: float, share: float) -> float:
    """From `start` to `end` on a straight line over the first `share` of the training, then `end`."""
    return linear(progress / share, start, end) if share else end


def learning_rate(progress: float, config: Train, peak: float) -> float:
    """The learning rate: up from zero on a straight line to `peak` for `config.warmup` of the training, then `config.schedule`.

    SGDR (https://arxiv.org/abs/1608.03983, eq. 5) without restarts, after the warm-up of https://arxiv.org/abs/1706.02677.
    """
    if progress < config.warmup:
        return linear(progress / config.warmup, 0.0, peak)
    if config.schedule == "constant":
        return peak
    return cosine((progress - config.warmup) / (1 - config.warmup), peak, peak * config.final_rate)


def weight_decay(progress: float, config: Train) -> float:
    """The weight decay: the optimizer's, or from there along a cosine to `config.weight_decay_end`, as in DINO."""
    start = config.optimizer.weight_decay
    return start if config.weight_decay_end is None else cosine(progress, start, config.weight_decay_end)
