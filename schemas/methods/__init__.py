"""Pretraining methods: one class a method, told apart by `kind`."""

from typing import Annotated

from schemas.methods.contrastive import SimCLR
from schemas.methods.decorrelation import VICReg
from schemas.methods.self_distillation import DINO
from schemas.methods.spec import MethodSpec
from schemas.spec import Kinded

Method = Annotated[SimCLR | VICReg | DINO, *Kinded]

__all__ = ["DINO", "Method", "MethodSpec", "SimCLR", "VICReg"]
