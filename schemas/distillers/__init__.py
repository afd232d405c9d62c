"""How students learn from a teacher, from each other or from labels: one class a method, told apart by `kind`."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from schemas.distillers.features import AttentionTransfer, Feature, FitNets, Gram, MaskedFeature
from schemas.distillers.online import DML, ONE, PSKD
from schemas.distillers.relations import CRD, ISD, RKD, SEED, CompRess
from schemas.distillers.scores import DKD, BornAgain, Bucila, CrossEntropy, Hinton, Logits, SoftLabels, TfKD
from schemas.distillers.self_distillation import DINOv2Students
from schemas.distillers.spec import DistillerSpec, Tap
from schemas.spec import Kinded

Distiller = Annotated[
    Feature | FitNets | AttentionTransfer | Gram | MaskedFeature | RKD | SEED | CompRess | ISD | CRD | DINOv2Students
    | CrossEntropy | Bucila | Logits | Hinton | DKD | SoftLabels | BornAgain | TfKD | DML | ONE | PSKD,
    *Kinded,
]  # fmt: skip


def _which(value: Any) -> str:
    return "(several)" if isinstance(value, list | tuple) else "(one)"


Distillers = Annotated[
    Annotated[Distiller, Tag("(one)")] | Annotated[list[Distiller], Field(min_length=1), Tag("(several)")],
    Discriminator(_which),
]
"""One method, or a list of methods whose terms are added."""

__all__ = [
    "CRD", "DKD", "DML", "ISD", "ONE", "PSKD", "RKD", "SEED", "AttentionTransfer", "BornAgain", "Bucila", "CompRess", "CrossEntropy",
    "DINOv2Students", "Distiller", "DistillerSpec", "Distillers", "Feature", "FitNets", "Gram", "Hinton", "Logits", "MaskedFeature",
    "SoftLabels", "Tap", "TfKD",
]  # fmt: skip
