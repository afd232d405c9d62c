"""What one pass over a frozen teacher saves: four students together against one after the other, and against a warm teacher cache.

    python benchmarks/distill_cost.py [--scale cpu|gpu] [--steps 60] [--rounds 3] [--out benchmarks/distill_cost.json]

Whole `distill` stages are run, from the dataset's manifest to sealed checkpoints, on random images of a folder: two ViTs and two
ConvNets, two losses, under a ViT of about four times a student's parameters. The arms take turns; the median of the rounds counts.
`seconds` is a stage's wall time, `step` the time of a step without the first. `ideal` is one batch's views and teacher forward, and the
four students' own work: what is left of their separate steps without these, which are timed where they run. The monitors look at 16
images, since a run is so short.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import CONVNET, VIT, finish, machine
from PIL import Image

from schemas import methods as configs
from schemas.distillers import RKD, Feature
from schemas.encoders import Encoder
from schemas.job import Job
from schemas.sources import Folder
from schemas.stages import Distill, Ingest, Pretrain, StageBase
from schemas.students import Student
from schemas.training import Train
from schemas.views import Views
from ssl_tasks import monitors
from ssl_tasks.data.views import augment
from ssl_tasks.distill import lessons
from ssl_tasks.distill.teacher import FrozenTeacher
from ssl_tasks.nn.encoder import TimmEncoder, parameters
from ssl_tasks.run import run
from ssl_tasks.tracking import Silent

WIDE = {"options": {"layers": [1, 1, 1], "channels": [40, 80, 160], "stem_chs": 40}}
SCALES: dict[str, dict[str, Any]] = {
    "cpu": {
        "batch": 64,
        "teacher": VIT.model_copy(update={"width": 192}),
        "students": [VIT, CONVNET.model_copy(update=WIDE)],
    },
    "gpu": {
        "batch": 256,
        "teacher": Encoder(name="vit_base_patch16_224", image_size=224),
        "students": [Encoder(name="vit_small_patch16_224", image_size=224), Encoder(name="resnet50", image_size=224)],
    },
}
VIEW = Views(count=1)
LOSSES: dict[str, Feature | RKD] = {"feature": Feature(), "rkd": RKD()}


class Bench:
    """A workspace with random images and a teacher of random weights."""

    def __init__(self, workspace: Path, scale: dict[str, Any], steps: int) -> None:
        self.workspace, self.batch, self.teacher, self.steps, self.runs = workspace, scale["batch"], scale["teacher"], steps, 0
        networks = {f"{encoder.name.split('_')[0]}_{name}": (encoder, loss) for encoder in scale["students"] for name, loss in LOSSES.items()}
        self.students = {name: Student(**encoder.model_dump(), method=loss) for name, (encoder, loss) in networks.items()}
        side = self.teacher.image_size
        rng = np.random.default_rng(0)
        (workspace / "images").mkdir()
        for i in range(4 * self.batch):
            Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(workspace / f"images/{i}.png")
        self.made(Ingest(source=Folder(path="images")), {}, {"": "data"})
        train = Train(epochs=0.01, batch_size=self.batch, monitors=1)
        self.made(Pretrain(dataset="data", method=configs.SimCLR(), encoder=self.teacher, train=train), {"data": "data"}, {"": "teacher"})

    def made(self, stage: StageBase, inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, Any]:
        self.runs += 1
        written = {"name": "s", "pipeline": "p", "stage": stage, "key": f"run-{self.runs}", "inputs": inputs, "outputs": outputs, "workspace": self.workspace}
        return run(Job.model_validate(written), Silent())

    def distilled(self, names: list[str], cached: bool = False) -> dict[str, float]:
        """Wall time of a stage and seconds of a step."""
        stage = Distill(
            dataset="data",
            teacher="teacher",
            students={name: self.students[name] for name in names},
            views=VIEW,
            train=Train(epochs=self.steps / 4, batch_size=self.batch, monitors=1, checkpoint_steps=10**6),
            teacher_cache={"gigabytes": 20.0} if cached else None,  # type: ignore[arg-type]  # read by pydantic
        )
        began = time.perf_counter()
        made = self.made(stage, {"data": "data", "teacher": "teacher"}, {name: f"{name}-{self.runs}" for name in names})
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "step": self.batch / made[names[0]].metrics["images_per_second"]}


class Shared:
    """While it is open, seconds that go into views and the teacher's forward are counted, call by call."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = {"views": [], "teacher": []}

    def __enter__(self) -> "Shared":
        self._before = augment, FrozenTeacher.__call__
        lessons.augment = self._timed("views", augment)  # type: ignore[attr-defined]  # its own import of it, which is timed
        FrozenTeacher.__call__ = self._timed("teacher", FrozenTeacher.__call__)  # type: ignore[method-assign]  # put back at the end
        return self

    def __exit__(self, *_: object) -> None:
        lessons.augment, FrozenTeacher.__call__ = self._before  # type: ignore[attr-defined, method-assign]  # as above

    def step(self, name: str) -> float:
        """Mean seconds of a call, without the first."""
        calls = self.took[name][1:]
        return sum(calls) / len(calls)

    def _timed(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            _wait()
            began = time.perf_counter()
            result = act(*arguments)
            _wait()
            self.took[name].append(time.perf_counter() - began)
            return result

        return timed


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def one_round(bench: Bench) -> dict[str, float]:
    """Seconds of every arm, in turns."""
    names = list(bench.students)
    together = bench.distilled(names)
    separate, shared = [], []
    for name in names:
        with Shared() as counted:
            separate.append(bench.distilled([name]))
        shared.append({part: counted.step(part) for part in counted.took})
    warm = bench.distilled(names, cached=True)
    next_ones = [bench.distilled([name], cached=True) for name in names]
    once = [sum(each.values()) for each in shared]
    return {
        "together_seconds": together["seconds"],
        "separate_seconds": sum(each["seconds"] for each in separate),
        "warm_together_seconds": warm["seconds"],
        "warm_separate_seconds": sum(each["seconds"] for each in next_ones),
        "together_step": together["step"],
        "separate_step": sum(each["step"] for each in separate),
        "warm_together_step": warm["step"],
        "warm_separate_step": sum(each["step"] for each in next_ones),
        "ideal_step": sum(each["step"] for each in separate) - sum(once) + statistics.mean(once),
        **{f"{part}_step": statistics.mean(each[part] for each in shared) for part in shared[0]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    monitors.SAMPLE = 16
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), SCALES[options.scale], options.steps)
        bench.distilled(list(bench.students), cached=True)  # decodes the images, fills the cache, and warms up
        rounds = [one_round(bench) for _ in range(options.rounds)]
        for each in rounds:
            print({name: round(value, 3) for name, value in each.items()}, file=sys.stderr)
    middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    sizes = {name: parameters(TimmEncoder(student.encoder)) for name, student in bench.students.items()}
    result = {
        "scale": options.scale,
        "batch": bench.batch,
        "steps": options.steps,
        "parameters": {"teacher": parameters(TimmEncoder(bench.teacher)), **sizes},
        "seconds": {name: round(value, 4) for name, value in middle.items()},
        "images_per_second_of_all_students": {
            arm: round(bench.batch * len(sizes) / middle[f"{arm}_step"], 1) for arm in ("separate", "together", "warm_separate", "warm_together", "ideal")
        },
        "times_as_fast_as_separate": {
            **{arm: round(middle["separate_seconds"] / middle[f"{arm}_seconds"], 2) for arm in ("together", "warm_separate", "warm_together")},
            **{f"{arm}_step": round(middle["separate_step"] / middle[f"{arm}_step"], 2) for arm in ("together", "warm_separate", "warm_together", "ideal")},
        },
        "over_ideal": round(middle["together_step"] / middle["ideal_step"] - 1, 4),
        "rounds": rounds,
        "machine": machine(),
    }
    finish(result, options.out)


if __name__ == "__main__":
    main()
