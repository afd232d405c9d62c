"""Each protocol applied to what is seen of a model."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from schemas.errors import UserError
from schemas.evaluations import KNN, OF_CLASSIFIERS, Accuracy, Calibration, Cost, FewShot, Fidelity, Linear, Protocol, Rank
from ssl_tasks.evaluate import cost
from ssl_tasks.evaluate.accuracy import accuracy
from ssl_tasks.evaluate.bench import Said, Seen
from ssl_tasks.evaluate.calibration import calibration_error, fitted_temperature, likelihood_loss
from ssl_tasks.evaluate.few_shot import few_shot
from ssl_tasks.evaluate.fidelity import agreement, divergence
from ssl_tasks.evaluate.knn import knn
from ssl_tasks.evaluate.linear import linear
from ssl_tasks.evaluate.rank import rank
from ssl_tasks.evaluate.results import Metric
from ssl_tasks.evaluate.split import Split
from ssl_tasks.nn.encoder import parameters


class Number(NamedTuple):
    """What a protocol finds: a metric, its value of each draw, and how many images it rests on."""

    metric: Metric
    values: list[float]
    n: int


class Skipped(Exception):
    """A protocol says nothing of a model; the message says why, after the model's name."""


def score(protocol: Protocol, seen: Seen, parts: Split, seed: int, device: str) -> list[Number]:
    """One protocol's numbers for a model.

    Raises:
        Skipped: where it says nothing of this one.
        UserError: where it cannot be run on the data set.
    """
    x, queries = seen.features, len(parts.queries)
    world = (x[parts.bank], parts.labels[parts.bank], x[parts.queries], parts.labels[parts.queries])
    match protocol:
        case KNN():
            return [Number("accuracy", [knn(*world, protocol.k, protocol.temperature, device)], queries)]
        case FewShot():
            return [Number("accuracy", few_shot(*world, protocol.shots, protocol.draws, seed, device), queries)]
        case Linear():
            return [Number("accuracy", [linear(*world, protocol.strengths, seed)], queries)]
        case Rank():
            return [Number("effective_rank", [rank(x[parts.train], protocol.samples, seed)], min(len(parts.train), protocol.samples))]
        case Accuracy():
            said = _classes_known(seen)
            return [Number("accuracy", [accuracy(said.queries, said.labels)], queries)]
        case Fidelity():
            return _fidelity(seen)
        case Calibration():
            return _calibration(_classes_known(seen), protocol.bins)
        case Cost():
            return _cost(seen, protocol)


def check_classifiers(protocols: Sequence[Protocol], classifiers: int, name: str) -> None:
    """Refuse protocols of classifiers where no model is one.

    Raises:
        UserError: names them, and what to do.
    """
    needy = list(dict.fromkeys(p.kind for p in protocols if isinstance(p, OF_CLASSIFIERS)))
    if needy and not classifiers:
        raise UserError(
            f"stages.{name}.protocols: {', '.join(needy)} judge{'s' if len(needy) == 1 else ''} classifiers, and no model is one; "
            "let a finetune stage make one, or distill by labels or class scores"
        )


def _classifier(seen: Seen) -> Said:
    if seen.said is None:
        raise Skipped("is no classifier")
    return seen.said


def _classes_known(seen: Seen) -> Said:
    said = _classifier(seen)
    if (said.labels < 0).all():
        raise Skipped(f"knows none of the test images' classes; it knows {', '.join(said.classes[:8])}")
    return said


def _fidelity(seen: Seen) -> list[Number]:
    own, teacher = _classifier(seen), seen.teacher
    if teacher is None:
        raise Skipped("has no teacher among the models that is a classifier")
    if sorted(own.classes) != sorted(teacher.classes):
        raise Skipped("does not have its teacher's classes")
    taught = teacher.queries[:, [teacher.classes.index(name) for name in own.classes]]
    n = len(own.queries)
    return [Number("agreement", [agreement(own.queries, taught)], n), Number("kl", [divergence(own.queries, taught)], n)]


def _calibration(said: Said, bins: int) -> list[Number]:
    if not len(said.held):
        raise Skipped("knows the class of no image that a temperature can be fitted to")
    temperature = fitted_temperature(said.held, said.held_labels)
    n, known = len(said.labels), int((said.labels >= 0).sum())

    def both(metric: Metric, scaled: Metric, judge: Callable[[float], float], n: int) -> list[Number]:
        return [Number(metric, [judge(1.0)], n), Number(scaled, [judge(temperature)], n)]

    return [
        *both("ece", "ece_scaled", lambda t: calibration_error(said.queries, said.labels, bins, t), n),
        *both("nll", "nll_scaled", lambda t: likelihood_loss(said.queries, said.labels, t), known),
        Number("temperature", [temperature], len(said.held)),
    ]


def _cost(seen: Seen, protocol: Cost) -> list[Number]:
    if seen.model is None or not seen.bytes:
        raise Skipped("is a baseline")
    model = seen.model.eval()
    found = [
        Number("parameters", [float(parameters(model))], 1),
        Number("flops", [float(cost.flops(model, seen.shape))], 1),
        Number("megabytes", [seen.bytes / 1e6], 1),
    ]
    for device in cost.devices():
        settings = (device, protocol.batch, protocol.repeats)
        if settings not in seen.timed:
            seen.timed[settings] = cost.speed(model, seen.shape, *settings)
        speed = seen.timed[settings]
        latency: Metric = "latency_cuda" if device == "cuda" else "latency_cpu"
        throughput: Metric = "throughput_cuda" if device == "cuda" else "throughput_cpu"
        found += [Number(latency, [speed.latency], speed.passes), Number(throughput, [speed.throughput], speed.passes)]
    return found
