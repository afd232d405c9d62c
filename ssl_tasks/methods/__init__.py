"""Pretraining methods: one file a paper in its family's folder, none importing another."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from schemas import methods as configs
from ssl_tasks.method import Method
from ssl_tasks.methods.clustering.deepcluster_v2 import DeepClusterV2
from ssl_tasks.methods.clustering.pcl import PCL
from ssl_tasks.methods.clustering.sela import SeLa
from ssl_tasks.methods.clustering.swav import SwAV
from ssl_tasks.methods.contrastive.adco import AdCo
from ssl_tasks.methods.contrastive.clsa import CLSA
from ssl_tasks.methods.contrastive.cmc import CMC
from ssl_tasks.methods.contrastive.cpc import CPC
from ssl_tasks.methods.contrastive.densecl import DenseCL
from ssl_tasks.methods.contrastive.directclr import DirectCLR
from ssl_tasks.methods.contrastive.essl import ESSL
from ssl_tasks.methods.contrastive.instance_discrimination import InstanceDiscrimination
from ssl_tasks.methods.contrastive.moco import MoCo
from ssl_tasks.methods.contrastive.moco_v3 import MoCoV3
from ssl_tasks.methods.contrastive.nnclr import NNCLR
from ssl_tasks.methods.contrastive.pirl import PIRL
from ssl_tasks.methods.contrastive.relic import ReLIC
from ssl_tasks.methods.contrastive.relic_v2 import ReLICv2
from ssl_tasks.methods.contrastive.simclr import SimCLR
from ssl_tasks.methods.contrastive.sscd import SSCD
from ssl_tasks.methods.decorrelation.barlow_twins import BarlowTwins
from ssl_tasks.methods.decorrelation.vicreg import VICReg
from ssl_tasks.methods.decorrelation.vicreg_duality import VICRegDuality
from ssl_tasks.methods.decorrelation.vicregl import VICRegL
from ssl_tasks.methods.decorrelation.w_mse import WMSE
from ssl_tasks.methods.masked.beit import BEiT
from ssl_tasks.methods.masked.data2vec import Data2Vec
from ssl_tasks.methods.masked.data2vec2 import Data2Vec2
from ssl_tasks.methods.masked.dbot import DBOT
from ssl_tasks.methods.masked.fcmae import FCMAE
from ssl_tasks.methods.masked.i_jepa import IJEPA
from ssl_tasks.methods.masked.mae import MAE
from ssl_tasks.methods.masked.maskfeat import MaskFeat
from ssl_tasks.methods.masked.simmim import SimMIM
from ssl_tasks.methods.masked.uniform_masking import UniformMasking
from ssl_tasks.methods.pretext.colorization import Colorization
from ssl_tasks.methods.pretext.context_encoder import ContextEncoder
from ssl_tasks.methods.pretext.denoising_autoencoder import DenoisingAutoencoder
from ssl_tasks.methods.pretext.exemplar import ExemplarCNN
from ssl_tasks.methods.pretext.jigsaw import Jigsaw
from ssl_tasks.methods.pretext.relative_patch import RelativePatch
from ssl_tasks.methods.pretext.rotnet import RotNet
from ssl_tasks.methods.pretext.split_brain import SplitBrain
from ssl_tasks.methods.self_distillation.byol import BYOL
from ssl_tasks.methods.self_distillation.dino import DINO
from ssl_tasks.methods.self_distillation.dinov2 import DINOv2
from ssl_tasks.methods.self_distillation.dinov3 import DINOv3
from ssl_tasks.methods.self_distillation.ibot import IBOT
from ssl_tasks.methods.self_distillation.msf import MSF
from ssl_tasks.methods.self_distillation.msn import MSN
from ssl_tasks.methods.self_distillation.simsiam import SimSiam
from ssl_tasks.nn.dvae import DVAE
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
    configs.RotNet: RotNet,
    configs.RelativePatch: RelativePatch,
    configs.Jigsaw: Jigsaw,
    configs.ExemplarCNN: ExemplarCNN,
    configs.PIRL: PIRL,
    configs.ESSL: ESSL,
    configs.Colorization: Colorization,
    configs.SplitBrain: SplitBrain,
    configs.CMC: CMC,
    configs.ContextEncoder: ContextEncoder,
    configs.DenoisingAutoencoder: DenoisingAutoencoder,
    configs.InstanceDiscrimination: InstanceDiscrimination,
    configs.NNCLR: NNCLR,
    configs.MSF: MSF,
    configs.AdCo: AdCo,
    configs.CLSA: CLSA,
    configs.DirectCLR: DirectCLR,
    configs.ReLIC: ReLIC,
    configs.ReLICv2: ReLICv2,
    configs.CPC: CPC,
    configs.DenseCL: DenseCL,
    configs.VICRegL: VICRegL,
    configs.WMSE: WMSE,
    configs.VICRegExp: VICRegDuality,
    configs.VICRegCtr: VICRegDuality,
    configs.DeepClusterV2: DeepClusterV2,
    configs.SeLa: SeLa,
    configs.PCL: PCL,
    configs.SimMIM: SimMIM,
    configs.MaskFeat: MaskFeat,
    configs.FCMAE: FCMAE,
    configs.UniformMasking: UniformMasking,
    configs.Data2Vec: Data2Vec,
    configs.Data2Vec2: Data2Vec2,
    configs.IJEPA: IJEPA,
    configs.DBOT: DBOT,
    configs.MSN: MSN,
    configs.PMSN: MSN,
    configs.BEiT: BEiT,
}
"""The method behind each config."""


def build(config: configs.Method, encoder: TimmEncoder, images: int = 1, tokenizer: DVAE | None = None) -> Method:
    """The method that a config describes, around an encoder that it trains.

    Args:
        images: how many there are to train on, for a method that remembers something of each.
        tokenizer: what tells the visual words of an image, for a method that learns to tell them.
    """
    given = {"images": images, "tokenizer": tokenizer}
    method: Method = METHODS[type(config)](config, encoder, **{name: given[name] for name in config.takes})
    return method


def restored(written: Any, encoder: TimmEncoder, state: Mapping[str, Tensor]) -> Method:
    """A method as its training left it.

    Args:
        written: its config as plain data.
        encoder: one like that which was trained.
        state: of the method. One that takes `images` keeps their number in it, one that takes a `tokenizer` its weights and shape.
    """
    config = TypeAdapter[configs.Method](configs.Method).validate_python(written)
    with torch.random.fork_rng():
        tokenizer = DVAE.fitting(state, "tokenizer.") if "tokenizer" in config.takes else None
        method = build(config, encoder, images=int(state.get("images", 1)), tokenizer=tokenizer)
    method.load_state_dict(state)
    return method
