"""Pretraining methods: one class a method, told apart by `kind`."""

from typing import Annotated

from schemas.methods.clustering import PCL, DeepClusterV2, SeLa, SwAV
from schemas.methods.colour import CMC, Colorization, SplitBrain
from schemas.methods.contrastive import SSCD, MoCoV1, MoCoV2, MoCoV3, SimCLR
from schemas.methods.decorrelation import WMSE, BarlowTwins, VICReg, VICRegCtr, VICRegExp
from schemas.methods.dense import CPC, DenseCL, VICRegL
from schemas.methods.invariance import ReLIC, ReLICv2
from schemas.methods.latent import DBOT, IJEPA, MSN, PMSN, Data2Vec, Data2Vec2
from schemas.methods.masked import MAE
from schemas.methods.neighbours import CLSA, MSF, NNCLR, AdCo, DirectCLR, InstanceDiscrimination
from schemas.methods.pixels import FCMAE, MaskFeat, SimMIM, UniformMasking
from schemas.methods.prediction import BYOL, SimSiam
from schemas.methods.pretext import ExemplarCNN, Jigsaw, RelativePatch, RotNet
from schemas.methods.reconstruction import ContextEncoder, DenoisingAutoencoder
from schemas.methods.self_distillation import DINO, IBOT, DINOv2, DINOv3
from schemas.methods.spec import MethodSpec
from schemas.methods.tokens import BEiT
from schemas.methods.transformed import ESSL, PIRL
from schemas.spec import Kinded

Contrastive = (
    SimCLR | SSCD | MoCoV1 | MoCoV2 | MoCoV3 | PIRL | ESSL | CMC | InstanceDiscrimination | NNCLR | AdCo | CLSA | DirectCLR | ReLIC | ReLICv2 | CPC | DenseCL
)
Decorrelation = BarlowTwins | VICReg | WMSE | VICRegExp | VICRegCtr | VICRegL
SelfDistillation = BYOL | SimSiam | DINO | IBOT | DINOv2 | DINOv3 | MSF | MSN | PMSN
Clustering = SwAV | DeepClusterV2 | SeLa | PCL
Masked = MAE | SimMIM | MaskFeat | FCMAE | UniformMasking | BEiT | Data2Vec | Data2Vec2 | IJEPA | DBOT
Pretext = RotNet | RelativePatch | Jigsaw | ExemplarCNN | Colorization | SplitBrain | ContextEncoder | DenoisingAutoencoder
Method = Annotated[Contrastive | Decorrelation | SelfDistillation | Clustering | Masked | Pretext, *Kinded]

PROTOTYPES = ("dino", "ibot", "dinov2", "dinov3")
"""Methods whose teacher speaks in prototypes that are trained with it: what `dinov2` students learn from."""

__all__ = [
    "BYOL",
    "CLSA",
    "CMC",
    "CPC",
    "DBOT",
    "DINO",
    "ESSL",
    "FCMAE",
    "IBOT",
    "IJEPA",
    "MAE",
    "MSF",
    "MSN",
    "NNCLR",
    "PCL",
    "PIRL",
    "PMSN",
    "PROTOTYPES",
    "SSCD",
    "WMSE",
    "AdCo",
    "BEiT",
    "BarlowTwins",
    "Colorization",
    "ContextEncoder",
    "DINOv2",
    "DINOv3",
    "Data2Vec",
    "Data2Vec2",
    "DeepClusterV2",
    "DenoisingAutoencoder",
    "DenseCL",
    "DirectCLR",
    "ExemplarCNN",
    "InstanceDiscrimination",
    "Jigsaw",
    "MaskFeat",
    "Method",
    "MethodSpec",
    "MoCoV1",
    "MoCoV2",
    "MoCoV3",
    "ReLIC",
    "ReLICv2",
    "RelativePatch",
    "RotNet",
    "SeLa",
    "SimCLR",
    "SimMIM",
    "SimSiam",
    "SplitBrain",
    "SwAV",
    "UniformMasking",
    "VICReg",
    "VICRegCtr",
    "VICRegExp",
    "VICRegL",
]
