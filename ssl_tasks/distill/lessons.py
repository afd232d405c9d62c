"""Lessons: a batch's views, and of these what all students of a pass learn from, made once."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from schemas.artifacts import Checkpoint, Dataset, read
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Distill
from schemas.students import Student as StudentConfig
from ssl_tasks import distributed
from ssl_tasks.checkpoints import WEIGHTS
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.loader import seed_of
from ssl_tasks.data.views import augment
from ssl_tasks.distill.cache import TAP, TeacherCache
from ssl_tasks.distill.labels import Labels
from ssl_tasks.distill.network import Network, Seen, Shapes
from ssl_tasks.distill.objective import Lesson
from ssl_tasks.distill.objectives import wants_places
from ssl_tasks.distill.teacher import FrozenTeacher
from ssl_tasks.failures import versions
from ssl_tasks.train import Seat


class Lecturer:
    """The frozen teacher, or what is kept of what it says; its weights are loaded when it is asked something that is not kept.

    Attributes:
        shapes: the sizes of what it says.
        note: what was adapted for it, in a line; empty where nothing was.
    """

    def __init__(self, artifact: Checkpoint, students: Sequence[StudentConfig], device: torch.device, cache: TeacherCache | None) -> None:
        """Raises UserError where class scores are wanted of a teacher without, its weights are damaged, or a path names no layer."""
        taught = [method for student in students for method in student.methods if method.taught]
        scores = [method for method in taught if method.of_scores]
        if scores and not artifact.classes:
            raise UserError(f"{scores[0].kind} learns class scores, and the teacher '{artifact.stage}' has none: let a finetune stage make it a classifier")
        taps = sorted({tap.teacher for method in taught for tap in method.taps})
        places = wants_places(taught)
        self._make = partial(FrozenTeacher, artifact, device, scores=bool(scores), taps=taps, places=places)
        self._cache, self._device = cache, device
        self.wanted = frozenset(["pooled", *["places"] * places, *["logits"] * bool(scores), *(TAP + tap for tap in taps)])
        facts = cache.facts(f"said-{seed_of(*sorted(self.wanted))}", self._facts) if cache else self._facts()
        self.note: str = facts["note"]
        self.shapes = _shapes(facts["shapes"])

    @cached_property
    def teacher(self) -> FrozenTeacher:
        """With its weights."""
        return self._make()

    def __call__(self, views: list[Tensor], seat: Seat) -> Seen:
        """What it says of this process's share of a batch, of global views (B, C, S, S) each."""
        if self._cache is None:
            return self.teacher(views)
        batch = f"step-{seat.step:09d}-rows-{seat.own.start}-{seat.own.stop}-of-{seat.samples}"
        return self._cache(batch, self.wanted, lambda: self.teacher(views))

    def _facts(self) -> dict[str, Any]:
        return {"note": self.teacher.note, "shapes": asdict(self.teacher.shapes)}


class Lessons:
    """Makes a batch's views, and of these what all students learn from.

    Args:
        size: of the global views, in pixels.
        lecturer: None where there is no teacher.
        spread: whether each rank makes its share of the batch and all get the whole.
    """

    def __init__(self, stage: Distill, size: int, lecturer: Lecturer | None, labels: Labels, device: torch.device, spread: bool) -> None:
        self.stage, self.size, self.lecturer, self.device, self.spread = stage, size, lecturer, device, spread
        self.labels = torch.tensor(labels.numbers, device=device)

    def views(self, images: Tensor, draw: Draw) -> list[Tensor]:
        made = augment(self.stage.views, images, self.size, draw)
        return [distributed.gather(view) for view in made] if self.spread else made

    def __call__(self, views: list[Tensor], seat: Seat) -> Lesson:
        count = self.stage.views.count
        rows = torch.from_numpy(seat.rows).to(self.device)
        shared = [view[seat.own] for view in views[:count]] if self.spread else views[:count]
        train = self.stage.train
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda" and train.bfloat16):
            said = self.lecturer(shared, seat) if self.lecturer else None
        own = seat.own
        if self.spread:
            rows, own = distributed.gather(rows), slice(0, seat.samples)
            said = said and _of_all_ranks(said, count)
        return Lesson(said, views, count, rows, self.labels[rows], seed_of(self.stage.seed, "lesson", seat.step), seat.samples, own)


def cache_of(job: Job, artifact: Checkpoint, images: int, size: int, device: torch.device, note: Any) -> TeacherCache | None:
    """The teacher's cache where the stage wants one.

    Args:
        images: side of the training images as they are stored, in pixels.
        size: of the global views, in pixels.
    """
    stage = job.stage
    assert isinstance(stage, Distill)
    if stage.teacher_cache is None:
        return None
    dataset = read(job.folder(job.inputs[stage.dataset]))
    assert isinstance(dataset, Dataset)
    identity = {
        "teacher": {"weights": artifact.files[WEIGHTS], "encoder": artifact.encoder.model_dump(mode="json"), "mean": artifact.mean, "std": artifact.std},
        "images": {"manifest": dataset.manifest, "side": images},
        "views": {**stage.views.model_dump(mode="json"), "size": size},
        "seed": stage.seed,
        "batch_size": stage.train.batch_size,
        "precision": [device.type, stage.train.bfloat16],
        "code": {"contract": stage.contract, **versions()},
    }
    return TeacherCache(job.cache, identity, stage.teacher_cache.gigabytes, device, note)


def cost(network: Network) -> float:
    """Floating-point operations of a forward, which a step of the student is in proportion to."""
    with FlopCounterMode(display=False) as counter:
        network.shapes()
    return float(counter.get_total_flops())


def _of_all_ranks(seen: Seen, views: int) -> Seen:
    """What is said of every rank's images, from what is said of this one's; rows of the global views lie one view after the other."""

    def joined(each: Tensor) -> Tensor:
        return torch.cat([distributed.gather(part) for part in each.chunk(views)])

    taps = {path: joined(value) for path, value in seen.taps.items()}
    places, logits = (None if value is None else joined(value) for value in (seen.places, seen.logits))
    return replace(seen, pooled=joined(seen.pooled), places=places, taps=taps, logits=logits)


def _shapes(written: dict[str, Any]) -> Shapes:
    """Sizes that were written as JSON, which knows no tuples."""
    taps = {path: tuple(sizes) for path, sizes in written["taps"].items()}
    return Shapes(**{**written, "grid": tuple(written["grid"]), "taps": taps})
