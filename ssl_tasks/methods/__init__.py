"""Pretraining methods: one file a paper in its family's folder, none importing another."""

from typing import Any

from schemas import methods as configs
from ssl_tasks.method import Method
from ssl_tasks.methods.clustering.swav import SwAV
from ssl_tasks.methods.contrastive.moco import MoCo
from ssl_tasks.methods.contrastive.moco_v3 import MoCoV3
from ssl_tasks.methods.contrastive.simclr import SimCLR
from ssl_tasks.methods.contrastive.sscd import SSCD
from ssl_tasks.methods.decorrelation.barlow_twins import BarlowTwins
from ssl_tasks.methods.decorrelation.vicreg import VICReg
from ssl_tasks.methods.masked.mae import MAE
from ssl_tasks.methods.self_distillation.byol import BYOL
from ssl_tasks.methods.self_distillation.dino import DINO
from ssl_tasks.methods.self_distillation.dinov2 import DINOv2
from ssl_tasks.methods.self_distillation.dinov3 import DINOv3
from ssl_tasks.methods.self_distillation.ibot import IBOT
from ssl_tasks.methods.self_distillation.simsiam import SimSiam
from ssl_tasks.nn.encoder import TimmEncoder

METHODS: dict[type[configs.MethodSpec], Any] = {
    configs.SimCLR: SimCLR,
    configs.SSCD: SSCD,
    configs.MoCoV1: MoCo,
    configs.MoCoV2: MoCo,
    configs.MoCoV3: MoCoV3,
    configs.BarlowTwins: BarlowTwins,
    configs.VICReg: VICReg,
    configs.BYOL: BYOL,
    configs.SimSiam: SimSiam,
    configs.SwAV: SwAV,
    configs.DINO: DINO,
    configs.MAE: MAE,
    configs.IBOT: IBOT,
    configs.DINOv2: DINOv2,
    configs.DINOv3: DINOv3,
}
"""The method behind each config."""


def build(config: configs.Method, encoder: TimmEncoder) -> Method:
    """The method that a config describes, around an encoder that it trains."""
    method: Method = METHODS[type(config)](config, encoder)
    return method
