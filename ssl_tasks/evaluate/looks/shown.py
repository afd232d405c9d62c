"""What pictures of a model are made of: some images, as they are stored and as the model sees them."""

import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_tasks.data.store import side_for, squares
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.neighbours import Ints
from ssl_tasks.evaluate.report.pictures import PICTURE, Picture
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.evaluate.world import World


def called(kind: str, subject: Subject) -> str:
    """The name of a plate: what it shows and whose it is, fit for a file."""
    return f"{kind}-{re.sub(r'[^A-Za-z0-9.]+', '-', subject.name).strip('-')}"


def some(world: World, count: int) -> Ints:
    """Rows of the table that are shown, the same for every model: drawn from the test split, or else from the train split."""
    pool = world.parts.queries if len(world.parts.queries) else world.parts.train
    return np.sort(np.random.default_rng(world.seed).permutation(pool)[:count])


def which(world: World) -> str:
    """What those images are called in a caption."""
    return "test images" if len(world.parts.queries) else "train images"


def fed(subject: Subject, rows: Ints) -> Tensor:
    """Images as the model is fed them, (B, C, S, S), on its device."""
    return torch.cat([subject.prepare(batch) for batch in subject.batches(rows)])


def seen(subject: Subject, images: Tensor) -> list[Picture]:
    """What the model was fed, as pictures: normalised images (B, C, S, S) with mean and spread put back, of other channels the first three."""
    assert subject.artifact
    mean, std = (images.new_tensor(values)[:, None, None] for values in (subject.artifact.mean, subject.artifact.std))
    pixels = ((images * std + mean).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    coloured = pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1].expand(-1, 3, -1, -1)
    return list(coloured.numpy())


def stored(world: World, rows: Ints) -> list[Picture]:
    """Images as they are stored for a reader, small."""
    listed = world.table.take(rows)
    return list(squares(listed, world.job.workspace, side_for(listed, PICTURE), 3))


def finite(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """The same values. Raises Skipped where some are no numbers."""
    if not np.isfinite(values).all():
        raise Skipped("has features that are not finite")
    return values
