"""Probes: classifiers on frozen features that several protocols share, fitted to the labelled train images and never to test images.

`linear`: multinomial logistic regression, as DINOv2 judges features (https://arxiv.org/abs/2304.07193, section 7.1). `knn`: the weighted vote
of the nearest train images (https://arxiv.org/abs/1805.01978, section 3.4). `classifier`: a model's own head.
Shapes: N images, D dimensions, K classes of the data set.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.errors import UserError
from ssl_tasks.evaluate.findings import Number, Skipped
from ssl_tasks.evaluate.held_out import split
from ssl_tasks.evaluate.neighbours import Floats, Ints, neighbours
from ssl_tasks.evaluate.split import UNKNOWN, own_numbers
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.nn.classifier import Classifier

LOWEST, HIGHEST = -6, 5
"""Powers of ten between which the strength C is searched (DINOv2, dinov2/eval/log_regression.py)."""
STRENGTHS, NEIGHBOURS, TEMPERATURE = 13, 20, 0.07

_SMALL = 10_000_000
"""Values of a bank for which threads cost more than they give: on two busy cores the fits to 1,297 x 128 took 31 s with two, 3 s with one."""
_BLOCK = 4096
"""Images that are scored at a time."""

Kind = Literal["linear", "knn", "classifier"]


class Probe(Protocol):
    """A fitted classifier of features."""

    def scores(self, features: Floats) -> Floats:
        """(N, K) of features (N, D), float64: a probability, or share of the vote, of each class of the data set; 0 of one that it does not know.

        A row adds up to 1, less what a classifier's own head gives to classes that are not the data set's.
        """

    def predict(self, features: Floats) -> Ints:
        """The class (N,) of each image as a number of the data set's classes; -1 where a classifier's own head names another one."""


def fit(kind: Kind, subject: Subject) -> Probe:
    """A probe of a model, fitted once however many protocols ask for it.

    Raises:
        Skipped: under `classifier`, where the model is none or knows no class of the data set.
        UserError: where the train images do not suffice.
    """
    key = ("probe", kind)
    if key not in subject.shared:
        subject.shared[key] = _fit(kind, subject)
    found: Probe = subject.shared[key]
    return found


def _fit(kind: Kind, subject: Subject) -> Probe:
    parts, world = subject.world.parts, subject.world
    match kind:
        case "linear":
            return Logistic(logistic(subject.features[parts.bank], parts.labels[parts.bank], STRENGTHS, world.seed), len(parts.classes))
        case "knn":
            k = min(NEIGHBOURS, len(parts.bank))
            return Neighbours(subject.features[parts.bank], parts.labels[parts.bank], len(parts.classes), k, TEMPERATURE, world.device)
        case "classifier":
            if subject.classifier is None:
                raise Skipped("is no classifier")
            numbers = own_numbers(np.arange(len(parts.classes)), parts.classes, subject.classifier.classes)
            if (numbers == UNKNOWN).all():
                raise Skipped(f"knows none of the images' classes; it knows {', '.join(subject.classifier.classes[:8])}")
            return Head(subject.classifier, numbers, world.device)
        case _:
            assert_never(kind)


@dataclass(frozen=True)
class Logistic:
    """A fitted logistic regression."""

    model: Any
    classes: int

    def scores(self, features: Floats) -> Floats:
        found = np.zeros((len(features), self.classes))
        found[:, self.model.classes_] = self.model.predict_proba(features.astype(np.float64))
        return found

    def predict(self, features: Floats) -> Ints:
        chosen: Ints = self.model.predict(features.astype(np.float64))
        return chosen


@dataclass(frozen=True)
class Neighbours:
    """The vote of the nearest labelled images."""

    bank: Floats
    labels: Ints
    classes: int
    k: int
    temperature: float
    device: str = "cpu"

    def scores(self, features: Floats) -> Floats:
        similarities, nearest = neighbours(self.bank, features, self.k, self.device)
        sums = votes(similarities, self.labels[nearest], self.temperature, self.classes)
        shares: Floats = sums / sums.sum(1, keepdims=True)
        return shares

    def predict(self, features: Floats) -> Ints:
        chosen: Ints = self.scores(features).argmax(1)
        return chosen


@dataclass(frozen=True)
class Head:
    """A classifier's own head; `numbers` (K,) are its numbers of the data set's classes, -1 where it does not know one."""

    classifier: Classifier
    numbers: Ints
    device: str = "cpu"

    def scores(self, features: Floats) -> Floats:
        own = self._own(features)
        found: Floats = np.where(self.numbers >= 0, own[:, self.numbers], 0.0)
        return found

    def predict(self, features: Floats) -> Ints:
        back = np.full(len(self.classifier.classes), UNKNOWN, dtype=np.int64)
        known = np.flatnonzero(self.numbers >= 0)
        back[self.numbers[known]] = known
        chosen: Ints = back[self._own(features).argmax(1)]
        return chosen

    @torch.inference_mode()
    def _own(self, features: Floats) -> NDArray[np.float64]:
        """Probabilities of the classes that the head knows."""
        blocks = [np.array(features[i : i + _BLOCK], np.float32) for i in range(0, len(features), _BLOCK)]
        logits = [self.classifier.head(torch.from_numpy(block).to(self.device)).double().cpu() for block in blocks]
        found: NDArray[np.float64] = torch.cat(logits).softmax(1).numpy()
        return found


def among_top(scores: Floats, labels: Ints, count: int = 5) -> Iterator[Number]:
    """Top-5 accuracy of scores (N, K), where that says something: the data set has more classes. A class without any score is not named."""
    if scores.shape[1] > count:
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        found = ((best == labels[:, None]) & (np.take_along_axis(scores, best, 1) > 0)).any(1).astype(np.float64)
        yield Number("top5", [float(found.mean())], len(found), found)


def votes(similarities: Floats, labels: Ints, temperature: float, classes: int) -> Floats:
    """Of each class the sum of exp(similarity / temperature) over the neighbours that have it, but for a factor a query, (Q, K).

    Args:
        similarities, labels: of each query's neighbours, (Q, k).
    """
    weights = np.exp((similarities - similarities.max(1, keepdims=True)) / temperature)
    sums = np.zeros((len(labels), classes))
    np.add.at(sums, (np.arange(len(labels))[:, None], labels), weights)
    return sums


def logistic(bank: Floats, labels: Ints, strengths: int, seed: int) -> Any:
    """A multinomial logistic regression (scikit-learn's), fitted to all of the bank by L-BFGS.

    Its strength C is the best of a geometric grid on a held-out tenth of the bank, the smallest of equals; 1 where no class has two images.

    Args:
        bank, labels: features (N, D) as they are, and classes (N,).
        strengths: how many values of C are tried.

    Raises:
        UserError: if the bank has fewer than two classes.
    """
    if len(np.unique(labels)) < 2:
        raise UserError(f"the {len(labels)} labelled train images are all of one class; two are needed")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    x = bank.astype(np.float64)
    held, fitted = split(labels, seed)
    with warnings.catch_warnings(), threadpool_limits(1 if x.size < _SMALL else None):
        # Large C on separable classes has no finite optimum: the 1000 iterations are the protocol's stop.
        warnings.simplefilter("ignore", ConvergenceWarning)
        chosen = 1.0
        if len(held):
            model = LogisticRegression(tol=1e-6, max_iter=1000, warm_start=True)
            grid = np.logspace(LOWEST, HIGHEST, strengths)
            chosen = grid[int(np.argmax([model.set_params(C=c).fit(x[fitted], labels[fitted]).score(x[held], labels[held]) for c in grid]))]
        return LogisticRegression(C=chosen, tol=1e-6, max_iter=1000).fit(x, labels)
