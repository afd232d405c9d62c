"""Every pretraining method and every distiller, small enough for a test, on tiny encoders."""

from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch

from schemas import methods as configs
from schemas.distillers import Distiller as DistillerConfig
from schemas.encoders import Encoder
from schemas.spec import Spec
from ssl_tasks.distill import build as build_distiller
from ssl_tasks.method import Method
from ssl_tasks.methods import build as build_method
from ssl_tasks.nn.encoder import TimmEncoder

ENCODERS = {
    "vit": Encoder(name="vit_tiny_patch16_224", image_size=16, patch_size=4, width=32, depth=1, heads=2, channels=1),
    "convnet": Encoder(
        name="resnetv2_18", image_size=16, channels=1, stem="half", options={"layers": [1, 1], "channels": [8, 16], "stem_chs": 8, "zero_init_last": False}
    ),
}
SMALL = {
    "hidden": 48,
    "output": 32,
    "queue": 40,
    "prototypes": 24,
    "bottleneck": 16,
    "patch_prototypes": 20,
    "patch_hidden": 40,
    "patch_bottleneck": 12,
    "decoder_width": 32,
    "decoder_depth": 1,
    "decoder_heads": 2,
}
"""Parameters of methods that are made small, wherever a method has one of that name."""
TEACHER_DIM, BATCH = 20, 16


def members(union: Any) -> list[type[Spec]]:
    """Classes of a union that is told apart by `kind`, or of one that has a single member yet."""
    inside = get_args(union)[0]
    return list(get_args(inside)) or [inside]


@dataclass(frozen=True)
class Case:
    """A method or distiller with a config small enough for a test, on a tiny encoder."""

    config: Any
    encoder: Encoder

    def make(self, seed: int = 0) -> Method:
        torch.manual_seed(seed)
        encoder = TimmEncoder(self.encoder)
        if type(self.config) in members(DistillerConfig):
            return build_distiller(self.config, encoder, TEACHER_DIM).train()
        return build_method(self.config, encoder).train()


def cases() -> dict[str, Case]:
    """Every member of both unions on every encoder that it takes."""
    found = {}
    for member in members(configs.Method) + members(DistillerConfig):
        config = member(**{name: value for name, value in SMALL.items() if name in member.model_fields})
        fitting = ["vit"] if getattr(member, "masks_patches", False) else list(ENCODERS)
        found |= {f"{config.kind}-{name}": Case(config, ENCODERS[name]) for name in fitting}  # type: ignore[attr-defined]  # each has a kind
    return found


CASES = cases()
every_method = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
