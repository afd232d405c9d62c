"""The objective behind each distillation method's config."""

from collections.abc import Iterable

from schemas import distillers as configs
from ssl_tasks.distill.features.attention_transfer import AttentionTransfer
from ssl_tasks.distill.features.feature import Feature
from ssl_tasks.distill.features.fitnets import FitNets
from ssl_tasks.distill.features.gram import Gram
from ssl_tasks.distill.features.masked_feature import MaskedFeature
from ssl_tasks.distill.objective import Objective, Setting
from ssl_tasks.distill.online.dml import DML
from ssl_tasks.distill.online.one import ONE
from ssl_tasks.distill.online.ps_kd import PSKD
from ssl_tasks.distill.relations.compress import CompRess
from ssl_tasks.distill.relations.crd import CRD
from ssl_tasks.distill.relations.isd import ISD
from ssl_tasks.distill.relations.rkd import RKD
from ssl_tasks.distill.relations.seed import SEED
from ssl_tasks.distill.scores.born_again import BornAgain
from ssl_tasks.distill.scores.bucila import Bucila
from ssl_tasks.distill.scores.cross_entropy import CrossEntropy
from ssl_tasks.distill.scores.dkd import DKD
from ssl_tasks.distill.scores.hinton import Hinton
from ssl_tasks.distill.scores.logits import Logits
from ssl_tasks.distill.scores.soft_labels import SoftLabels
from ssl_tasks.distill.scores.tf_kd import TfKD
from ssl_tasks.distill.self_distillation.dinov2 import DINOv2Students

OBJECTIVES: dict[type[configs.DistillerSpec], type[Objective]] = {
    configs.Feature: Feature,
    configs.FitNets: FitNets,
    configs.AttentionTransfer: AttentionTransfer,
    configs.Gram: Gram,
    configs.MaskedFeature: MaskedFeature,
    configs.RKD: RKD,
    configs.SEED: SEED,
    configs.CompRess: CompRess,
    configs.ISD: ISD,
    configs.CRD: CRD,
    configs.DINOv2Students: DINOv2Students,
    configs.CrossEntropy: CrossEntropy,
    configs.Bucila: Bucila,
    configs.Logits: Logits,
    configs.Hinton: Hinton,
    configs.DKD: DKD,
    configs.SoftLabels: SoftLabels,
    configs.BornAgain: BornAgain,
    configs.TfKD: TfKD,
    configs.DML: DML,
    configs.ONE: ONE,
    configs.PSKD: PSKD,
}


def wants_places(methods: Iterable[configs.DistillerSpec]) -> bool:
    """Whether any of them looks at features of places, of student and teacher."""
    return any(OBJECTIVES[type(method)].wants_places(method) for method in methods)


def build(config: configs.DistillerSpec, setting: Setting) -> Objective:
    """The objective that a config describes."""
    return OBJECTIVES[type(config)](config, setting)
