"""Pretraining methods: one class a method, told apart by `kind`."""

from typing import Annotated

from schemas.methods.clustering import SwAV
from schemas.methods.contrastive import SSCD, MoCoV1, MoCoV2, MoCoV3, SimCLR
from schemas.methods.decorrelation import BarlowTwins, VICReg
from schemas.methods.masked import MAE
from schemas.methods.prediction import BYOL, SimSiam
from schemas.methods.self_distillation import DINO, IBOT, DINOv2, DINOv3
from schemas.methods.spec import MethodSpec
from schemas.spec import Kinded

Method = Annotated[SimCLR | SSCD | MoCoV1 | MoCoV2 | MoCoV3 | BarlowTwins | VICReg | BYOL | SimSiam | SwAV | DINO | IBOT | DINOv2 | DINOv3 | MAE, *Kinded]

PROTOTYPES = ("dino", "ibot", "dinov2", "dinov3")
"""Methods whose teacher speaks in prototypes that are trained with it: what `dinov2` students learn from."""

__all__ = [
    "BYOL",
    "DINO",
    "IBOT",
    "MAE",
    "PROTOTYPES",
    "SSCD",
    "BarlowTwins",
    "DINOv2",
    "DINOv3",
    "Method",
    "MethodSpec",
    "MoCoV1",
    "MoCoV2",
    "MoCoV3",
    "SimCLR",
    "SimSiam",
    "SwAV",
    "VICReg",
]
