"""Watcher: `python -m ssl_tasks.watcher FOLDER PID`, the process that judges the encoders which a training leaves in a folder; see `watching.py`.

The newest comes first: it tells how the training goes, and where time runs out at the end it is an older one that is left out.
"""

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.artifacts import Checkpoint, sha256
from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Evaluate, Pretrain
from ssl_tasks.checkpoints import WEIGHTS
from ssl_tasks.data.manifest import column
from ssl_tasks.data.views import MEAN_STD
from ssl_tasks.evaluate import protocols, results
from ssl_tasks.evaluate.findings import Skipped
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.split import split
from ssl_tasks.evaluate.subject import Bench
from ssl_tasks.evaluate.world import World
from ssl_tasks.watching import ENCODER, FOUND, JOB, OVER, snapshots

_MODEL = "encoder"
_POLL = 0.2


class Watcher:
    """Judges encoders of one training, all on the same images."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.job = folder, Job.model_validate_json((folder / JOB).read_text(encoding="utf-8"))
        assert isinstance(self.job.stage, Pretrain)
        self.stage: Pretrain = self.job.stage
        self._world: World | None = None
        self._said: set[str] = set()

    def follow(self, parent: int) -> None:
        """Judge what is there and what comes, until the training has ended or is gone."""
        while os.getppid() == parent:
            over = (self.folder / OVER).exists()  # asked for first: what was left before it is seen below
            if waiting := snapshots(self.folder):
                lines = list(self.judge(waiting[0]))
                with (self.folder / FOUND).open("a", encoding="utf-8") as file:
                    file.write("".join(json.dumps(line) + "\n" for line in lines))
                shutil.rmtree(waiting[0])
            elif over:
                return
            else:
                time.sleep(_POLL)

    def judge(self, snapshot: Path) -> Iterator[dict[str, Any]]:
        """A line a number of one encoder, and a note of each protocol that gives none, the first time."""
        stated = json.loads((snapshot / ENCODER).read_text())
        weights = snapshot / WEIGHTS
        mean, std = MEAN_STD[stated["encoder"]["channels"]]
        artifact = Checkpoint(
            key="", stage=self.job.name, kind=self.stage.kind, config={}, parents={}, files={WEIGHTS: sha256(weights)},
            sizes={WEIGHTS: weights.stat().st_size}, encoder=stated["encoder"], mean=mean, std=std, dim=stated["dim"],
            exported=self.stage.method.exports, folder=snapshot,
        )  # fmt: skip
        subject = Bench(self.world, {_MODEL: artifact}, {}).subject(_MODEL, "pretrained")
        wanted = self.world.stage.protocols
        for protocol, called in zip(wanted, results.names(wanted), strict=True):
            try:
                numbers, _ = protocols.apply(protocol, subject)
            except Skipped as reason:
                if called not in self._said:
                    yield {"note": f"{called} gives no number: the encoder {reason}"}
                self._said.add(called)
                continue
            for number in numbers:
                measure = called if METRICS[number.metric].main else f"{called}/{number.metric}"
                by = {"version": protocol.version, "metric": number.metric, "split": self.world.parts.id, "n": number.n}
                yield {"step": stated["step"], "measure": measure, "value": statistics.fmean(number.values), **by}

    @property
    def world(self) -> World:
        """A sample of the images that are watched, the same for every encoder."""
        if self._world is None:
            watch, stage = self.stage.watch, self.stage
            assert watch
            asked = Evaluate(
                dataset=watch.dataset or stage.dataset, models=[_MODEL], protocols=watch.protocols, baselines=[], seed=stage.seed, resources=stage.resources
            )
            whole = World.of(self.job, asked, "cpu")
            self._world = replace(whole, parts=split(sample(whole.table, watch.sample, stage.seed), stage.seed))
        return self._world


def sample(table: pa.Table, most: int, seed: int) -> pa.Table:
    """At most so many rows of each split, drawn at random, in the table's order."""
    order = np.random.default_rng(seed).permutation(len(table))
    parts = column(table, "split")[order]
    return table.take(np.sort(np.concatenate([order[parts == part][:most] for part in dict.fromkeys(parts)])))


if __name__ == "__main__":
    os.nice(19)
    try:
        Watcher(Path(sys.argv[1])).follow(int(sys.argv[2]))
    except UserError as error:
        sys.exit(str(error))
