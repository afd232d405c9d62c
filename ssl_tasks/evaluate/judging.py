"""Judging: every model and baseline under every protocol, and again under other seeds where that is asked for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from schemas.protocols import ProtocolSpec, classifiers, costs, dense, frozen, grouping, looks, robustness
from ssl_tasks.evaluate import protocols, results
from ssl_tasks.evaluate.findings import Number, Plate, Skipped
from ssl_tasks.evaluate.report.showcase import Showcase
from ssl_tasks.evaluate.results import Role, Row
from ssl_tasks.evaluate.subject import Bench, Subject
from ssl_tasks.memory import ran_out
from ssl_tasks.tracking import Tracker

SETTLED: frozenset[type[ProtocolSpec]] = frozenset(
    {
        frozen.KNN, classifiers.Accuracy, classifiers.Fidelity, classifiers.Calibration, grouping.Retrieval, dense.Propagation, dense.Correspondence,
        robustness.OutOfDistribution, looks.Confusion, costs.Cost,
    }
)  # fmt: skip
"""Protocols that draw nothing, so that another seed gives the same numbers: judged once, however many repeats."""


@dataclass(frozen=True)
class Judgement:
    """What was found.

    Attributes:
        skipped: of each protocol the models of which it says nothing, and why.
    """

    showcase: Showcase
    rows: list[Row] = field(default_factory=list)
    plates: list[Plate] = field(default_factory=list)
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)


def judged(bench: Bench, roles: Mapping[str, Role], tracker: Tracker) -> Judgement:
    """Every model and baseline under every protocol; what a protocol cannot judge is left out, and the others go on."""
    world, stage = bench.world, bench.world.stage
    found = Judgement(Showcase(world.parts, stage.seed))
    done, steps = 0, len(roles) * (1 + len(stage.protocols))
    for name, role in roles.items():
        subject = bench.subject(name, role)
        done += 1
        tracker.progress(done, steps, {})
        if subject.is_model and not subject.unfit:
            found.showcase.add(name, subject.features)
        shared: list[dict[Any, Any]] = [{} for _ in range(1, stage.repeats)]
        for protocol, called in zip(stage.protocols, results.names(stage.protocols), strict=True):
            done += 1
            numbers: list[Number] = []
            try:
                numbers, plates = _repeated(protocol, subject, shared)
                found.plates.extend(plates)
            except Skipped as reason:
                if subject.is_model:
                    found.skipped.setdefault(called, {})[name] = str(reason)
            told = (subject.parameters, subject.dim, world.parts.id)
            new = [Row(name, role, called, protocol.version, n.metric, n.values, n.n, *told, n.items) for n in numbers]
            found.rows.extend(new)
            if new:
                tracker.metrics({f"{name}/{row.measure}": row.value for row in new}, done)
            tracker.progress(done, steps, {})
        subject.release()
    return found


def repeated(protocol: ProtocolSpec, repeats: int) -> bool:
    """Whether a protocol is judged under several seeds."""
    return repeats > 1 and type(protocol) not in SETTLED


def _repeated(protocol: ProtocolSpec, subject: Subject, shared: list[dict[Any, Any]]) -> tuple[list[Number], list[Plate]]:
    """The numbers over all repeats, one value a repeat and draw, and the pictures of the first.

    Args:
        shared: what protocols share under each further seed.
    """
    numbers, plates = _tried(protocol, subject)
    if not numbers or not repeated(protocol, subject.world.stage.repeats):
        return numbers, plates
    each = [{number.metric: number for number in numbers}]
    for further, known in enumerate(shared, 1):
        with under(subject, subject.world.seed + further, known):
            each.append({number.metric: number for number in _tried(protocol, subject)[0]})
    return [_together([found[metric] for found in each if metric in found]) for metric in each[0]], plates


def _together(numbers: list[Number]) -> Number:
    """A metric of several repeats as one."""
    known = [number.items for number in numbers if number.items is not None]
    items = np.mean(known, axis=0) if len(known) == len(numbers) and len({len(each) for each in known}) == 1 else None
    return replace(numbers[0], values=[value for number in numbers for value in number.values], items=items)


@contextmanager
def under(subject: Subject, seed: int, shared: dict[Any, Any]) -> Iterator[None]:
    """The subject in a world of another seed, with the same images, split, held-out images and features."""
    world, own = subject.world, subject.shared
    subject.world, subject.shared = replace(world, stage=world.stage.model_copy(update={"seed": seed})), shared
    try:
        yield
    finally:
        subject.world, subject.shared = world, own


def _tried(protocol: ProtocolSpec, subject: Subject) -> tuple[list[Number], list[Plate]]:
    """As `protocols.apply`; what takes more memory than there is is left out too."""
    try:
        return protocols.apply(protocol, subject)
    except Exception as error:
        if not ran_out(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise Skipped(f"takes more memory than there is under {protocol.kind}") from error
