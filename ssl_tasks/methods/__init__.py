"""Pretraining methods: one file a paper in its family's folder, none importing another."""

from typing import Any

from schemas import methods as configs
from ssl_tasks.method import Method
from ssl_tasks.methods.contrastive.simclr import SimCLR
from ssl_tasks.methods.decorrelation.vicreg import VICReg
from ssl_tasks.methods.self_distillation.dino import DINO
from ssl_tasks.nn.encoder import TimmEncoder

METHODS: dict[type[configs.MethodSpec], Any] = {
    configs.SimCLR: SimCLR,
    configs.VICReg: VICReg,
    configs.DINO: DINO,
}
"""The method behind each config."""


def build(config: configs.Method, encoder: TimmEncoder) -> Method:
    """The method that a config describes, around an encoder that it trains."""
    method: Method = METHODS[type(config)](config, encoder)
    return method
