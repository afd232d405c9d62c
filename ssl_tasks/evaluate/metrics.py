"""Metrics: what every number of an evaluation is, which direction is better, and how it is shown. Plain data."""

import math
from dataclasses import dataclass
from typing import get_args

from schemas.protocols.robustness import Corruption


@dataclass(frozen=True)
class Facts:
    """What is known of a metric.

    Attributes:
        title: the head of its column, beside its protocol's where the protocol gives several.
        better: 1 where more is better, -1 where less is, 0 where neither can be said.
        share: whether it is a share of items that were looked at, each right or wrong.
        percent: whether it is shown in percent.
        decimals: when it is shown.
        least, most: what it can be.
        quality: whether it tells of what a model is worth; else of what it takes to run.
        shown: whether tables show it; the rest is in `results.json` alone.
        main: whether it is the one metric that a protocol's name alone stands for.
    """

    title: str
    better: int = 0
    share: bool = False
    percent: bool = False
    decimals: int = 2
    least: float = 0.0
    most: float = math.inf
    quality: bool = True
    shown: bool = True
    main: bool = False


def _share(title: str, **fields: bool) -> Facts:
    return Facts(title, better=1, share=True, percent=True, decimals=1, most=1.0, **fields)


def _score(title: str, **fields: bool) -> Facts:
    """A mean of scores between 0 and 1, the more the better."""
    return Facts(title, better=1, percent=True, decimals=1, most=1.0, **fields)


def _expense(title: str) -> Facts:
    return Facts(title, quality=False, shown=False)


METRICS: dict[str, Facts] = {
    "accuracy": _share("accuracy", main=True),
    "effective_rank": Facts("rank", decimals=1, least=1.0, main=True),
    "agreement": _share("agreement"),
    "kl": Facts("KL", better=-1),
    "ece": Facts("ECE", better=-1, percent=True, decimals=1, most=1.0),
    "ece_scaled": Facts("ECE scaled", better=-1, percent=True, decimals=1, most=1.0),
    "nll": Facts("NLL", better=-1, shown=False),
    "nll_scaled": Facts("NLL scaled", better=-1, shown=False),
    "temperature": Facts("temperature", shown=False),
    "top5": _share("top-5", shown=False),
    "clustering_accuracy": _share("ACC"),
    "ari": Facts("ARI", better=1, percent=True, decimals=1, least=-1.0, most=1.0),
    "nmi": _score("NMI"),
    "fmi": _score("FMI", shown=False),
    "map": _score("mAP"),
    **{f"recall_{k}": _share(f"R@{k}", shown=k == 1) for k in (1, 2, 4, 5, 8, 10, 20, 50, 100, 1000)},
    "micro_ap": _score("micro-AP"),
    "recall_at_p90": _score("R@P90"),
    "miou": _score("mIoU"),
    "pixel_accuracy": _score("pixel accuracy", shown=False),
    "rmse": Facts("RMSE", better=-1, decimals=3),
    "abs_rel": Facts("abs rel", better=-1, decimals=3, shown=False),
    "delta1": _score("delta1"),
    "box_ap": _score("box AP"),
    "box_ap50": _score("box AP50", shown=False),
    "mask_ap": _score("mask AP"),
    "mask_ap50": _score("mask AP50", shown=False),
    "jf": _score("J&F"),
    "j": _score("J", shown=False),
    "f": _score("F", shown=False),
    "pck": _share("PCK"),
    "alpha": Facts("alpha"),
    "lidar": Facts("LiDAR", decimals=1, least=1.0),
    "alignment": Facts("alignment", better=-1, decimals=3, most=4.0),
    "uniformity": Facts("uniformity", better=-1, least=-4.0, most=0.0),
    "dimensions": Facts("dimensions"),
    "dimensions_projector": Facts("dimensions, projector", shown=False),
    "condition": Facts("log condition", shown=False),
    "corrupted_error": Facts("corrupted error", better=-1, percent=True, decimals=1, most=1.0),
    "mce": Facts("mCE", better=-1, percent=True, decimals=1),
    "relative_mce": Facts("relative mCE", better=-1, percent=True, decimals=1, least=-math.inf, shown=False),
    **{f"error_{kind}": Facts(f"error, {kind.replace('_', ' ')}", better=-1, percent=True, decimals=1, most=1.0, shown=False) for kind in get_args(Corruption)},
    "drop": Facts("drop", better=-1, percent=True, decimals=1, least=-1.0, most=1.0),
    "mean_class": _score("mean class"),
    "worst_class": _score("worst class"),
    "worst_group": _score("worst group"),
    "auroc": _score("AUROC"),
    "fpr95": Facts("FPR95", better=-1, percent=True, decimals=1, most=1.0),
    "parameters": _expense("parameters"),
    "flops": _expense("FLOPs"),
    "megabytes": _expense("MB"),
    "latency_cpu": _expense("ms an image"),
    "throughput_cpu": _expense("images/s"),
    "latency_cuda": _expense("ms an image, GPU"),
    "throughput_cuda": _expense("images/s, GPU"),
}
"""Of every metric that a protocol may give; any other is refused."""
ORDER = list(METRICS)
