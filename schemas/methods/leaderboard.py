"""Published figures of pretraining methods, in tables of which each row shares data, backbone and protocol.

A figure without these is none: the same method comes to 60.6 after 200 epochs and to 71.1 after 800 with another head. Figures that
a second source contradicts are left out, such as linear probes of pretext methods on networks that surveys mix up, and so is BEiT on
Imagenette, whose tokenizer there was a placeholder.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from schemas.encoders import Architecture

Task = Literal["global", "dense"]


class Table(NamedTuple):
    """Figures that may be compared with each other.

    Attributes:
        data: what was trained on, without labels.
        images: how many these are.
        protocol: how the frozen or fine-tuned encoder was judged, and the unit.
        task: whether that looks at whole images or at places.
        architecture: which encoders it tells of: ViTs, Swins, or ConvNets (None).
        figures: of each method's kind, with the epochs of its training where they are known.
        source: where they are from; empty for each method's own paper.
    """

    data: str
    images: int
    backbone: str
    protocol: str
    task: Task
    architecture: Architecture | None
    figures: Mapping[str, tuple[float, int | None]]
    source: str = ""


@dataclass(frozen=True)
class Figure:
    """One figure of one method, with all that it hangs on."""

    value: float
    protocol: str
    backbone: str
    data: str
    epochs: int | None

    def __str__(self) -> str:
        budget = f", {self.epochs} epochs" if self.epochs else ""
        return f"{self.value:g} {self.protocol} ({self.backbone}, {self.data}{budget})"


_IMAGENET = ("ImageNet-1k", 1_281_167)
_LIGHTLY = "https://docs.lightly.ai/self-supervised-learning/getting_started/benchmarks.html"
_SOLO = "https://github.com/vturrisi/solo-learn#results"
_STABLE = "https://github.com/galilai-group/stable-pretraining/tree/main/benchmarks/imagenet10"
_LINEAR, _KNN, _BOX, _ADE, _TUNED = "linear top-1", "k-NN top-1", "box AP on COCO, fine-tuned", "mIoU on ADE20K, fine-tuned", "top-1, fine-tuned"
_VOC, _VOC07 = "AP50 on VOC, fine-tuned", "mAP on VOC 2007, detection, fine-tuned"

TABLES: tuple[Table, ...] = (
    Table(
        *_IMAGENET, "ResNet-50", _LINEAR, "global", None,
        {
            "moco_v1": (60.6, 200), "pirl": (63.6, 800), "simclr": (69.3, 1000), "moco_v2": (71.1, 800), "simsiam": (71.3, 800), "adco": (72.8, 800),
            "barlow_twins": (73.2, 1000), "vicreg": (73.2, 1000), "byol": (74.3, 1000), "moco_v3": (74.6, 1000), "relic": (74.8, 1000),
            "deepcluster_v2": (75.2, 800), "swav": (75.3, 800), "dino": (75.3, 800), "nnclr": (75.4, 1000), "clsa": (76.2, 800), "relic_v2": (77.1, 1000),
        },
       
    ),
    Table(
        *_IMAGENET, "ResNet-50", _BOX, "dense", None,
        {"barlow_twins": (39.2, 1000), "moco_v1": (40.7, 200), "swav": (41.6, 800), "moco_v2": (41.7, 800), "byol": (42.0, 1000)},
    ),
    Table(
        *_IMAGENET, "ViT-B/16", _LINEAR, "global", "vit",
        {"mae": (67.8, 1600), "beit": (71.7, 800), "moco_v3": (76.7, 300), "dino": (78.2, 400), "ibot": (79.5, 400)},
    ),
    Table(
        *_IMAGENET, "ViT-B/16", _TUNED, "global", "vit",
        {
            "beit": (83.2, 800), "moco_v3": (83.2, 300), "mae": (83.6, 1600), "simmim": (83.8, 800), "ibot": (84.0, 400), "maskfeat": (84.0, 1600),
            "data2vec": (84.2, 800),
        },
       
    ),
    Table(*_IMAGENET, "ViT-B/16", _KNN, "global", "vit", {"dino": (76.1, 400), "ibot": (77.1, 400)}),
    Table(
        *_IMAGENET, "ViT-B/16", _BOX, "dense", "vit",
        {"dino": (46.8, 400), "moco_v3": (47.9, 300), "beit": (49.8, 800), "mae": (50.3, 1600), "data2vec": (50.5, 800), "ibot": (51.2, 400)},
    ),
    Table(
        *_IMAGENET, "ViT-B/16", _ADE, "dense", "vit",
        {"beit": (47.1, 800), "dino": (47.3, 400), "mae": (48.1, 1600), "data2vec": (49.1, 800), "ibot": (50.0, 400)},
    ),
    Table(
        *_IMAGENET, "ResNet-50", _VOC, "dense", None,
        {
            "byol": (81.4, 1000), "moco_v1": (81.5, 200), "simclr": (81.8, 1000), "vicreg": (82.4, 1000), "moco_v2": (82.5, 800), "swav": (82.6, 800),
            "barlow_twins": (82.6, 1000),
        },
    ),
    Table(
        *_IMAGENET, "ResNet-50", _KNN, "global", None,
        {"byol": (64.8, 1000), "swav": (65.7, 800), "barlow_twins": (66.0, 1000), "dino": (67.5, 800)}, "https://arxiv.org/abs/2104.14294, table 2",
    ),
    Table(*_IMAGENET, "AlexNet", _VOC07, "dense", None, {"colorization": (46.9, None), "jigsaw": (51.8, None), "rotnet": (54.4, None)}),
    Table(*_IMAGENET, "Swin-B", _TUNED, "global", "swin", {"simmim": (84.0, 800)}),
    Table(*_IMAGENET, "Swin-B", _BOX, "dense", "swin", {"simmim": (52.3, 800)}),
    Table("LVD-142M", 142_000_000, "ViT-g/14", _LINEAR, "global", "vit", {"dinov2": (86.5, None)}, "https://github.com/facebookresearch/dinov2"),
    Table("LVD-142M", 142_000_000, "ViT-g/14", _KNN, "global", "vit", {"dinov2": (83.5, None)}, "https://github.com/facebookresearch/dinov2"),
    Table("LVD-142M", 142_000_000, "ViT-g/14", "mIoU on ADE20K", "dense", "vit", {"dinov2": (53.4, None)}),
    Table(
        "CIFAR-10", 50_000, "ResNet-18", _KNN + ", best epoch", "global", None,
        {
            "dino": (84.8, 800), "barlow_twins": (85.9, 800), "simclr": (87.9, 800), "swav": (88.4, 800), "nnclr": (89.2, 800), "moco_v2": (89.9, 800),
            "simsiam": (90.4, 800), "byol": (91.0, 800),
        },
        _LIGHTLY,
    ),
    Table(
        "CIFAR-10", 50_000, "ResNet-18", _LINEAR + ", online", "global", None,
        {
            "w_mse": (88.67, 1000), "deepcluster_v2": (88.85, 1000), "swav": (89.17, 1000), "dino": (89.52, 1000), "simsiam": (90.51, 1000),
            "simclr": (90.74, 1000), "nnclr": (91.88, 1000), "vicreg": (92.07, 1000), "barlow_twins": (92.1, 1000), "byol": (92.58, 1000),
            "moco_v2": (92.94, 1000), "moco_v3": (93.1, 1000),
        },
        _SOLO,
    ),
    Table(
        "Imagenette", 9_469, "ResNet-18", _KNN + ", best epoch", "global", None,
        {
            "vicregl": (77.8, 800), "vicreg": (84.5, 800), "barlow_twins": (85.2, 800), "simsiam": (87.2, 800), "moco_v2": (87.4, 800), "nnclr": (88.4, 800),
            "byol": (88.7, 800), "dino": (88.8, 800), "simclr": (88.9, 800), "swav": (90.2, 800),
        },
        _LIGHTLY,
    ),
    Table(
        "ImageNet-100", 126_689, "ResNet-18", _KNN + ", best epoch", "global", None,
        {
            "byol": (43.9, 200), "nnclr": (45.3, 200), "barlow_twins": (46.5, 200), "simclr": (46.9, 200), "dino": (51.8, 200), "simsiam": (53.4, 200),
            "moco_v2": (56.0, 200), "swav": (67.8, 200),
        },
        _LIGHTLY,
    ),
    Table(
        "Imagenette", 9_469, "ViT-S/16", _LINEAR + ", online", "global", "vit",
        {
            "pirl": (15.6, 200), "w_mse": (15.9, 200), "simmim": (22.5, 200), "maskfeat": (25.6, 200), "data2vec": (26.3, 200),
            "i_jepa": (34.0, 200), "msn": (57.6, 200), "ibot": (57.9, 200), "simsiam": (62.8, 200), "byol": (63.9, 200), "moco_v2": (70.8, 200),
            "vicregl": (72.7, 200), "simclr": (74.9, 200), "vicreg": (79.4, 200), "nnclr": (80.2, 200), "barlow_twins": (83.0, 200), "mae": (84.1, 200),
            "moco_v3": (84.7, 200), "dino": (86.1, 200), "swav": (89.7, 200),
        },
        _STABLE,
    ),
)  # fmt: skip
"""The first figures are those of the papers, the others of three suites that trained many methods alike."""


def figures(kind: str) -> Iterator[Figure]:
    """What is published of a method."""
    for table in TABLES:
        if kind in table.figures:
            value, epochs = table.figures[kind]
            yield Figure(value, table.protocol, table.backbone, table.data, epochs)
