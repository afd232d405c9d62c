"""Expected calibration error and temperature scaling: Guo, Pleiss, Sun, Weinberger, 2017, https://arxiv.org/abs/1706.04599, sections 2 and 4.2.

Shapes: Q images, K classes. An image of a class that the classifier does not know (-1) has no likelihood; for the error it counts as wrong.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from schemas.protocols.classifiers import Calibration
from ssl_tasks.evaluate.findings import Number, Skipped
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.subject import Subject

COLDEST, HOTTEST = 0.01, 100.0
"""Between these a temperature is sought: without a wrong image among those that it is fitted to, none is too cold."""


def judge(protocol: Calibration, subject: Subject) -> Iterator[Number]:
    said = subject.known
    if not len(said.held):
        raise Skipped("knows the class of no image that a temperature can be fitted to")
    temperature = fitted_temperature(said.held, said.held_labels)
    n, known = len(said.labels), int((said.labels >= 0).sum())

    def both(metric: str, judge: Callable[[float], float], n: int) -> list[Number]:
        return [Number(metric, [judge(1.0)], n), Number(f"{metric}_scaled", [judge(temperature)], n)]

    yield from both("ece", lambda t: calibration_error(said.queries, said.labels, protocol.bins, t), n)
    yield from both("nll", lambda t: likelihood_loss(said.queries, said.labels, t), known)
    yield Number("temperature", [temperature], len(said.held))


def meaning(protocol: Calibration) -> str:
    return (
        f"ECE: distance of confidence and accuracy over {protocol.bins} bins of equal width, in percentage points; and the mean negative "
        "log-likelihood in nats. Scaled: after a temperature that is fitted by likelihood to held-out images, never to test images."
    )


def calibration_error(logits_QK: Floats, labels_Q: Ints, bins: int, temperature: float = 1.0) -> float:
    """ECE: mean distance of confidence and accuracy over bins of equal width, each weighed by its share of the images.

    A bin holds its upper edge, not its lower one, as in the paper.
    """
    found = binned(logits_QK, labels_Q, bins, temperature)
    # Summed in the bins, n (accuracy - confidence) is the count of right images less the sum of their confidences.
    return float(np.abs(found.right - found.confidence).sum() / len(labels_Q))


class Bins(NamedTuple):
    """Of each bin of confidence, (bins,): how many images it holds, the sum of their confidences, and how many of them are right."""

    images: Floats
    confidence: Floats
    right: Floats


def binned(logits_QK: Floats, labels_Q: Ints, bins: int, temperature: float = 1.0) -> Bins:
    """Images by how sure their class is."""
    confidence, chosen = (x.numpy() for x in (_log(logits_QK) / temperature).softmax(1).max(1))
    numbers = _bins(confidence, bins)
    weights = np.ones(len(labels_Q)), confidence, (chosen == labels_Q).astype(np.float64)
    sums: list[Floats] = [np.bincount(numbers, each, minlength=bins).astype(np.float64) for each in weights]
    return Bins(*sums)


def _bins(confidence: Floats, bins: int) -> Ints:
    """Number of the bin (i / bins, (i + 1) / bins] of each confidence."""
    edges = np.arange(1, bins + 1) / bins
    numbers: Ints = np.searchsorted(edges, confidence, side="left").clip(max=bins - 1)
    return numbers


def likelihood_loss(logits_QK: Floats, labels_Q: Ints, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the images whose class is known, in nats; there must be one."""
    known = labels_Q >= 0
    scores = (_log(logits_QK[known]) / temperature).log_softmax(1)
    return float(-scores.gather(1, torch.from_numpy(labels_Q[known])[:, None]).mean())


def fitted_temperature(logits_QK: Floats, labels_Q: Ints) -> float:
    """The temperature under which labels are the likeliest, between COLDEST and HOTTEST; the classes named stay as they are."""
    from scipy.optimize import minimize_scalar

    # Convex in 1 / T (a sum of log-sum-exps less what is linear), so with one valley in log T.
    found = minimize_scalar(
        lambda log: likelihood_loss(logits_QK, labels_Q, float(np.exp(log))), bounds=np.log([COLDEST, HOTTEST]), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def _log(logits: Floats) -> Tensor:
    return torch.from_numpy(np.asarray(logits, np.float64))
