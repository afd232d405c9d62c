"""Features that are planted in a small world, and what a protocol makes of them."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from small_world import SmallWorld, protocol

from ssl_tasks.evaluate.findings import Number
from ssl_tasks.evaluate.protocols import apply
from ssl_tasks.evaluate.subject import Subject

Features = Callable[[Subject], NDArray[np.float64]]


def planted(monkeypatch: pytest.MonkeyPatch, features: Features) -> None:
    """Every subject has these features from now on."""
    monkeypatch.setattr(Subject, "stored", property(lambda subject: features(subject).astype(np.float32)))


def by_class(subject: Subject) -> NDArray[np.float64]:
    """Features that tell the class and nothing else but a little noise."""
    parts = subject.world.parts
    return np.eye(len(parts.classes))[parts.labels] + 0.01 * np.random.default_rng(0).normal(size=(len(parts.labels), len(parts.classes)))


def values(numbers: list[Number]) -> dict[str, float]:
    return {number.metric: number.values[0] for number in numbers}


def judged(world: SmallWorld, kind: str, name: str = "vit", **settings: object) -> dict[str, float]:
    return values(apply(protocol(kind, **settings), world.subject(name))[0])
