"""What the report shows besides numbers: places in a map, neighbours, duplicates, counts, training curves."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.artifacts import Artifact
from schemas.errors import UserError
from ssl_tasks.data.manifest import column
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.report import neighbourhoods, plane
from ssl_tasks.evaluate.split import BANK, Split


class Showcase:
    """Keeps of each model's features only what the figures need.

    Attributes:
        sample: rows of the split's table that are mapped, the same for all models.
        mapped: features of the sample, by model.
        nearest: train rows nearest to each query, (Q, 8), by model; empty without queries.
    """

    def __init__(self, parts: Split, seed: int) -> None:
        self.parts, self.seed = parts, seed
        self.sample = plane.sample(parts, seed)
        self.mapped: dict[str, Floats] = {}
        self.nearest: dict[str, Ints] = {}

    def add(self, name: str, features: Floats) -> None:
        """Keep what is needed of one model's features of every row of the table."""
        self.mapped[name] = features[self.sample]
        if len(self.parts.queries):
            self.nearest[name] = neighbourhoods.nearest(features, self.parts)


def duplicates(table: pa.Table, most: int = 8) -> list[tuple[int, int]]:
    """Rows of a manifest as pairs (kept, removed as its duplicate), evenly over all there are."""
    of = table["duplicate_of"].to_pylist()
    position = {image: row for row, image in enumerate(column(table, "id"))}
    found = [(position[kept], row) for row, kept in enumerate(of) if kept is not None]
    chosen = np.linspace(0, len(found) - 1, min(most, len(found))).astype(int)
    return [found[i] for i in chosen]


def counts(table: pa.Table, steps: Sequence[str]) -> dict[str, int]:
    """How many train images are left after each step, from `listed` on, read from the manifest's column `why`.

    Args:
        steps: kinds of the curation's steps, in order.
    """
    train = column(table, "split") == BANK
    removed = [why.split(":")[0] for why, kept, mine in zip(table["why"].to_pylist(), table["kept"].to_pylist(), train, strict=True) if mine and not kept]
    left = {"listed": int(train.sum())}
    for step in dict.fromkeys([*(r for r in removed if r not in steps), *steps]):
        left[step] = left[list(left)[-1]] - removed.count(step)
    return left


def curves(artifact: Artifact) -> dict[str, tuple[list[float], list[float]]]:
    """Each quantity of a training as steps and values, from its `metrics.jsonl`; empty where it has none.

    Raises:
        UserError: where the file is damaged.
    """
    path = artifact.path("metrics.jsonl")
    found: dict[str, tuple[list[float], list[float]]] = {}
    if not path.is_file():
        return found
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise UserError(f"{path} is damaged: run stage '{artifact.stage}' again with `--force {artifact.stage}`") from error
    for line in lines:
        for name, value in line.items():
            if name != "step":
                steps, values = found.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(value)
    return found
