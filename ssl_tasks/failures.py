"""What is kept of a step whose loss or weights are not finite, so that it can be replayed."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from schemas.errors import UserError
from schemas.job import Job
from schemas.spec import Spec

FOLDER, RECORD, IMAGES = "failure", "failure.json", "images.npy"


class NotFinite(UserError):
    """A loss term, or the weights, that a step has made infinite or not a number.

    Attributes:
        step: its number, from 1.
        term: name of the loss term; `weights` for these.
    """

    def __init__(self, message: str, step: int, term: str) -> None:
        super().__init__(message)
        self.step, self.term = step, term


class Failure(Spec):
    """A step that went wrong, and where: `failure.json`, beside the step's images in `images.npy`, uint8 (B, C, S, S).

    `step` counts from 1, `term` is as in `NotFinite`. `ranks`, `threads` and `device` say what the training ran on, `versions` with what.
    """

    job: Job
    seed: int
    step: int
    term: str
    message: str
    ranks: int
    threads: int
    device: str
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Of the packages that numbers depend on."""
    return {name: version(name) for name in ("sslflow", "torch", "timm", "numpy")}


def keep(folder: Path, job: Job, seed: int, error: NotFinite, images: NDArray[np.uint8], ranks: int, device: torch.device) -> None:
    """Write what a replay needs into a folder.

    Args:
        images: of the step, uint8 (B, C, S, S), those of all ranks.
    """
    failure = Failure(
        job=job,
        seed=seed,
        step=error.step,
        term=error.term,
        message=str(error),
        ranks=ranks,
        threads=torch.get_num_threads(),
        device=device.type,
        versions=versions(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / IMAGES, images)
    (folder / RECORD).write_text(failure.model_dump_json(indent=1), encoding="utf-8")


def read(folder: Path) -> Failure:
    """The failure that was kept in a folder.

    Raises:
        UserError: where none was.
    """
    try:
        return Failure.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{folder} holds no {RECORD}: name the folder that the error named, .sslflow/work/KEY/{FOLDER}") from None
    except ValidationError as error:
        raise UserError(f"{folder / RECORD} is damaged, or of another version of sslflow: {error.errors()[0]['msg']}") from None
