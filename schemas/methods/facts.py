"""What `sslflow methods` and the pages say of a method besides its parameters: read from its config, the published tables and our benchmark."""

import json
import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from schemas.methods.leaderboard import Figure, figures
from schemas.methods.spec import MethodSpec

RESULTS = Path(__file__).parents[2] / "benchmarks" / "learning.json"
"""Of `benchmarks/learning.py`."""
NAMES = {"vit": "ViT", "swin": "Swin", "convnextv2": "ConvNeXt V2"}


@dataclass(frozen=True)
class Facts:
    """Of one method; `measured` is what it came to on the small budget of our benchmark, empty where it was not run."""

    family: str
    year: int
    exports: str
    encoders: str
    needs: tuple[str, ...]
    smallest_batch: int
    figures: tuple[Figure, ...]
    measured: str


def facts(spec: type[MethodSpec]) -> Facts:
    """Facts of a method's config class."""
    kind = spec.model_fields["kind"].default
    return Facts(spec.family, spec.year, spec.exports, encoders(spec), spec.needs, spec.smallest_batch, tuple(figures(kind)), measured(kind))


def encoders(spec: type[MethodSpec]) -> str:
    """Which encoders a method takes, in words."""
    return " or ".join(NAMES[each] for each in spec.architectures) + " only" if spec.architectures else "any timm ViT or ConvNet"


@cache
def results() -> dict[str, Any]:
    """The benchmark's whole result; without methods where it is not there."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"methods": {}}
    return found


def measured(kind: str) -> str:
    """k-NN and linear accuracy, in per cent, beside those of the same encoder at its random start; empty where it was not run."""
    row = results()["methods"].get(kind)
    if not row:
        return ""
    random = next(iter(row["seeds"].values())).get("start") or results()["random"][row["encoder"]]
    told = [f"{title} {statistics.mean(seed[name] for seed in row['seeds'].values()):.1f} ({random[name]:.1f})" for name, title in _MEASURES if name in random]
    return f"{', '.join(told)} on {row['encoder']}, in brackets its random start"


_MEASURES = (("knn", "k-NN"), ("linear", "linear"))
