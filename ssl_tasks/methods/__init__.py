"""Pretraining methods: one file a paper, none importing another."""

from schemas import methods as configs
from ssl_tasks.method import Method
from ssl_tasks.methods.dino import DINO
from ssl_tasks.methods.simclr import SimCLR
from ssl_tasks.methods.vicreg import VICReg
from ssl_tasks.nn.encoder import TimmEncoder


def build(config: configs.Method, encoder: TimmEncoder) -> Method:
    """The method that a config describes, around an encoder that it trains."""
    match config:
        case configs.SimCLR():
            return SimCLR(config, encoder)
        case configs.VICReg():
            return VICReg(config, encoder)
        case configs.DINO():
            return DINO(config, encoder)
