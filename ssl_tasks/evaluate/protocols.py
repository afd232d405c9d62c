"""The protocols: which file judges by which, what each needs, and how one is applied to one model."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np

from schemas.errors import UserError
from schemas.protocols import ProtocolSpec, adaptation, classifiers, costs, dense, frozen, grouping, label_free, looks, robustness
from ssl_tasks.evaluate.findings import Finding, Number, Plate, Skipped
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.split import Split
from ssl_tasks.evaluate.subject import Subject

JUDGES: Mapping[type[ProtocolSpec], str] = {
    frozen.KNN: "frozen.knn",
    frozen.FewShot: "frozen.few_shot",
    frozen.Linear: "frozen.linear",
    frozen.LowLabel: "frozen.low_label",
    frozen.LinearProbe: "frozen.linear_probe",
    frozen.MLPProbe: "frozen.mlp_probe",
    adaptation.FineTuned: "adaptation.fine_tuned",
    classifiers.Accuracy: "classifiers.accuracy",
    classifiers.Fidelity: "classifiers.fidelity",
    classifiers.Calibration: "classifiers.calibration",
    grouping.Clustering: "grouping.clustering",
    grouping.Retrieval: "grouping.retrieval",
    grouping.CopyDetection: "grouping.copy_detection",
    dense.Segmentation: "dense.segmentation",
    dense.Depth: "dense.depth",
    dense.Detection: "dense.detection",
    dense.Propagation: "dense.propagation",
    dense.Correspondence: "dense.correspondence",
    label_free.Rank: "label_free.rank",
    label_free.AlphaReQ: "label_free.alpha_req",
    label_free.LiDAR: "label_free.lidar",
    label_free.AlignmentUniformity: "label_free.alignment_uniformity",
    label_free.Rotation: "label_free.rotation",
    label_free.Spectrum: "label_free.spectrum",
    robustness.Corruptions: "robustness.corruptions",
    robustness.Shift: "robustness.shift",
    robustness.Groups: "robustness.groups",
    robustness.Reliability: "robustness.reliability",
    robustness.OutOfDistribution: "robustness.out_of_distribution",
    looks.Attention: "looks.attention",
    looks.PatchPCA: "looks.patch_pca",
    looks.Gallery: "looks.gallery",
    looks.Reconstructions: "looks.reconstructions",
    looks.EmbeddingMap: "looks.embedding_map",
    looks.Confusion: "looks.confusion",
    looks.Prototypes: "looks.prototypes",
    costs.Cost: "costs.cost",
}
"""The module under `ssl_tasks.evaluate` of each protocol, imported when it is asked for."""


class Judge(Protocol):
    """What the module of a protocol offers."""

    def judge(self, protocol: Any, subject: Subject) -> Iterator[Finding]:
        """The numbers and pictures of a model.

        Raises:
            Skipped: where the protocol says nothing of this model.
            UserError: where it cannot be run on this data set or model, in a line.
        """

    def meaning(self, protocol: Any) -> str:
        """What the protocol does with these settings, in sentences for a reader of the report."""


def module(protocol: ProtocolSpec) -> Judge:
    """The file of a protocol."""
    return cast(Judge, import_module(f"ssl_tasks.evaluate.{JUDGES[type(protocol)]}"))


def apply(protocol: ProtocolSpec, subject: Subject) -> tuple[list[Number], list[Plate]]:
    """A protocol's numbers and pictures of one model.

    Raises:
        Skipped: where it says nothing of this one, and why.
    """
    if reason := _unfit(protocol, subject) or lacking(protocol, subject.world.parts, subject.world.stage.dataset):
        raise Skipped(reason)
    try:
        found = list(module(protocol).judge(protocol, subject))
    except UserError as error:
        raise Skipped(f"cannot be judged: {error}") from error
    numbers = [finding for finding in found if isinstance(finding, Number)]
    unknown = [number.metric for number in numbers if number.metric not in METRICS]
    assert not unknown, f"{protocol.kind} gives {unknown}, which metrics.py does not know"
    return numbers, [finding for finding in found if isinstance(finding, Plate)]


def lacking(protocol: ProtocolSpec, parts: Split, dataset: str) -> str:
    """What a data set lacks for a protocol, and what to do; empty where it lacks nothing."""
    if "train labels" in protocol.needs and not len(parts.bank):
        return f"needs labels, and '{dataset}' has none; set `labels: true` on its source, or ask only for protocols without labels such as `rank`"
    if "train labels" in protocol.needs and len(found := np.unique(parts.labels[parts.bank])) == 1:
        return f"needs two classes or more, and all labelled train images of '{dataset}' are '{parts.classes[found[0]]}'; see what its curation kept"
    if "test labels" in protocol.needs and not (len(parts.queries) and (parts.labels[parts.queries] >= 0).all()):
        return f"needs labelled images in a test split, and '{dataset}' has none; set `splits: true` or `holdout` on its source, or ask only for `rank`"
    if {"train labels", "test labels"} <= protocol.needs and len(parts.unseen) == len(parts.queries):
        return f"needs classes that both splits have, and no test image of '{dataset}' is of a class of the train images; see how it was split"
    if "test images" in protocol.needs and not len(parts.queries):
        return f"needs a test split, and '{dataset}' has none; set `splits: true` or `holdout` on its source"
    return ""


def _unfit(protocol: ProtocolSpec, subject: Subject) -> str:
    if "classifier" in protocol.needs and not (subject.is_model and subject.artifact and subject.artifact.classes):
        return "is no classifier"
    if subject.role == "pixels" and protocol.needs & {"network", "vit"}:
        return "is no network"
    if "vit" in protocol.needs and not subject.encoder.is_vit:
        return f"is no plain ViT ('{subject.config.name}'), which {protocol.kind} reads tokens of"
    if "network" in protocol.needs and not isinstance(protocol, costs.Cost) and not subject.finite:
        return subject.unfit
    return ""


def check(protocols: Sequence[ProtocolSpec], parts: Split, classifiers: int, name: str, dataset: str) -> None:
    """Refuse before any work what says nothing of any model.

    Args:
        classifiers: how many models are.
        name: of the stage.
        dataset: of its dataset, as written.

    Raises:
        UserError: where no protocol is left; names the protocols, and what to do.
    """
    if not len(parts.train):
        raise UserError(f"stages.{name}.dataset: '{dataset}' keeps no image of the train split; loosen the steps of its curation")
    reasons: dict[str, list[str]] = {}
    for protocol in protocols:
        reason = lacking(protocol, parts, dataset)
        if not reason and "classifier" in protocol.needs and not classifiers:
            reason = "judges classifiers, and no model is one; let a finetune stage make one, or distill by labels or class scores"
        if not reason:
            return
        reasons.setdefault(reason, []).append(protocol.kind)
    told = "; ".join(f"{', '.join(dict.fromkeys(kinds))} {_plural(reason, len(set(kinds)))}" for reason, kinds in reasons.items())
    raise UserError(f"stages.{name}.protocols: {told}")


def _plural(reason: str, kinds: int) -> str:
    verb, _, rest = reason.partition(" ")
    return reason if kinds == 1 else f"{verb.removesuffix('s')} {rest}"
