"""Making formats: each is written, loaded in its own runtime and held against the original before it counts as made."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from schemas.errors import UserError
from schemas.exports import Format
from ssl_tasks.export import onnx_graph, timm_weights, torch_archive
from ssl_tasks.export.original import Original
from ssl_tasks.export.runtime import OwnSizeAlone, Runtime, Tool

TOOLS: dict[Format, Tool] = {"timm": timm_weights, "onnx": onnx_graph, "torch_export": torch_archive}
RUNTIMES: dict[Format, str] = {"timm": "timm", "onnx": "onnxruntime", "torch_export": "torch"}
"""The packages that run each format, and that it is checked in."""
CHECKS = "checks.json"
BATCHES = (1, 2, 5)
"""Numbers of images that a format is tried on at the encoder's own size; at other sizes two."""
TOLERANCE = 1e-4
"""Largest difference from the original that is allowed, over the largest value of the original: rounding in float32, layer after layer."""


TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Check:
    """One output of a format beside the original's, for one batch.

    Attributes:
        absolute: the largest difference.
        relative: the same, over the largest value of the original.
    """

    output: str
    batch: int
    height: int
    width: int
    absolute: float
    relative: float


@dataclass(frozen=True)
class Made:
    """A format that was written and agrees with the original.

    Attributes:
        runtime: what it was checked in, with its version.
        fixed: why it takes images of the encoder's own size alone; empty where it takes others too.
    """

    runtime: str
    checks: list[Check]
    fixed: str = ""

    @property
    def worst(self) -> Check:
        """The check with the largest relative difference."""
        return max(self.checks, key=lambda check: check.relative)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Heights and widths that it was tried on."""
        return list(dict.fromkeys((check.height, check.width) for check in self.checks))


@dataclass(frozen=True)
class Outcome:
    """What became of the formats that were asked for: those that are made, and of those that cannot be the reason."""

    made: dict[Format, Made] = field(default_factory=dict)
    refused: dict[Format, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As it stands in `checks.json`."""
        return {"tolerance": TOLERANCE, "made": {name: asdict(made) for name, made in self.made.items()}, "refused": self.refused}


class Differs(Exception):
    """A format that does not do what the original does."""


def make(original: Original, formats: Sequence[Format], folder: Path) -> Outcome:
    """Write formats, each into a folder of its name, and check them.

    Raises:
        UserError: where one fails its check, all of them are refused, what makes one is not installed, or the disk is full or read-only.
    """
    outcome, failed = Outcome(), {}
    formats = list(dict.fromkeys(formats))
    for name in formats:
        if reason := TOOLS[name].refusal(original):
            outcome.refused[name] = reason
    for name in (name for name in formats if name not in outcome.refused):
        (folder / name).mkdir(parents=True)
        try:
            outcome.made[name] = _made(name, original, folder / name)
        except Differs as error:
            failed[name] = error
        except OSError as error:
            raise UserError(f"cannot write {folder / name} ({error.strerror}): make room on its disk, or make it writable") from error
    _judge(original, outcome, failed)
    return outcome


def _judge(original: Original, outcome: Outcome, failed: dict[Format, Differs]) -> None:
    refusals = [f"{name} is refused: {reason}" for name, reason in outcome.refused.items()]
    if failed:
        told = [f"{name} failed its check: {error}" for name, error in failed.items()]
        told += [f"{', '.join(outcome.made)} would be right: leave {', '.join(failed)} out of the formats"] if outcome.made else []
        raise UserError(f"{original.artifact.stage} as {'; '.join(told + refusals)}")
    if not outcome.made:
        raise UserError(f"{original.artifact.stage} cannot be exported: {'; '.join(refusals)}; name another format ({', '.join(TOOLS)})")


def _made(name: Format, original: Original, folder: Path) -> Made:
    """One format: for images of any size where the original takes such and the exporter can follow, else of its own size."""
    sizes, fixed = original.sizes, ""
    if len(sizes) == 1:
        fixed = "the network takes no other"
    else:
        try:
            return Made(_runtime(name), _checks(name, original, folder, sizes))
        except OwnSizeAlone as error:
            fixed = str(error)
        except Differs as error:
            fixed = f"made for any size, it fails at some ({error})"
    return Made(_runtime(name), _checks(name, original, folder, sizes[:1]), fixed)


def _checks(name: Format, original: Original, folder: Path, sizes: list[tuple[int, int]]) -> list[Check]:
    """Write a format for images of these sizes, load it and compare it.

    Raises:
        Differs: where it cannot be written or run, or gives something else.
        OwnSizeAlone: where it can be for images of the encoder's own size.
    """
    tool = TOOLS[name]
    try:
        tool.write(original, folder, len(sizes) > 1)
        runtime = tool.load(folder, original.outputs)
        checks = list(compare(original, runtime, sizes))
    except (OSError, Differs, OwnSizeAlone):
        raise
    except Exception as error:  # exporters and runtimes raise dozens of types
        raise Differs(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}") from error
    if worst := max((check for check in checks if not check.relative <= TOLERANCE), key=lambda check: check.relative, default=None):
        where = f"{worst.batch} images of {worst.height}x{worst.width}"
        raise Differs(f"{worst.output} of {where} differ by {worst.absolute:.3g}, {worst.relative:.1g} of the largest where {TOLERANCE:g} is allowed")
    return checks


def compare(original: Original, runtime: Runtime, sizes: list[tuple[int, int]]) -> list[Check]:
    """A runtime beside the original, on the same images: several batch sizes at the first size, and two images at each other."""
    found = []
    for batch, size in [*((batch, sizes[0]) for batch in BATCHES), *((2, size) for size in sizes[1:])]:
        images = original.example(batch, size)
        with torch.inference_mode():
            wanted = dict(zip(original.outputs, original(images), strict=True))
        given = runtime(images.numpy())
        for name, value in wanted.items():
            right = value.double().numpy()
            if given[name].shape != right.shape:
                raise Differs(f"{name} of {batch} images of {size[0]}x{size[1]} have shape {given[name].shape} and not {right.shape}")
            absolute = float(np.abs(given[name] - right).max())
            found.append(Check(name, batch, *size, absolute, absolute / max(float(np.abs(right).max()), TINY)))
    return found


def _runtime(name: Format) -> str:
    return f"{RUNTIMES[name]} {version(RUNTIMES[name])}"
