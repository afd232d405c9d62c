"""What the nightly recipes reach, from which their thresholds are set: each with several seeds, in this process, without an orchestrator.

    python benchmarks/nightly.py [--recipes simclr dino] [--seeds 7 8 9] [--out benchmarks/nightly.json]

A threshold is what the worst of the seeds reached less a margin: `MARGIN` of an accuracy, a third of a rank. A row is written as soon as
it is there, so that an interrupted benchmark goes on where it stopped. `--write` puts the thresholds into the recipes.
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from common import finish, machine

from schemas.load import load
from ssl_tasks.run import run
from ssl_tasks.tracking import Silent
from workflows.engine.run import plan_pipeline, prepare_data

FOLDER = Path(__file__).resolve().parents[1] / "workflows" / "nightly"
MARGIN = 0.02
"""More than two standard errors of an accuracy of 96% on 500 test images."""
MEASURES = ("knn", "linear", "rank")


def recipes() -> list[str]:
    """Those that are scheduled."""
    return [file.stem for file in sorted(FOLDER.glob("*.yaml")) if load(file).schedule]


def measured(recipe: str, seed: int) -> dict[str, float]:
    """What the encoder reaches, what it reached untrained, and how long all stages took."""
    stated: Any = load(FOLDER / f"{recipe}.yaml").stages["report"]
    overrides = [f"seed={seed}", *(["stages.report.expect=null"] if stated.expect else [])]
    with tempfile.TemporaryDirectory() as folder:
        workspace, began = Path(folder), time.perf_counter()
        file = FOLDER / f"{recipe}.yaml"
        prepare_data(load(file, overrides), workspace)
        plan = plan_pipeline(file, workspace, overrides)
        for planned in plan.todo:
            run(plan.job(planned), Silent())
        report = plan.artifacts(plan.stages["report"])[""]
        found = {m: round(report.metrics[f"encoder/{m}"], 4) for m in MEASURES}
        untrained = {f"random_{m}": round(report.metrics[f"random init (encoder)/{m}"], 4) for m in MEASURES}
        return {**found, **untrained, "seconds": round(time.perf_counter() - began, 1)}


def thresholds(seeds: dict[str, dict[str, float]]) -> dict[str, str]:
    """What a recipe must reach, as its `expect` says it."""
    worst = {m: min(row[m] for row in seeds.values()) for m in MEASURES}
    bounds = {m: math.floor(100 * (worst[m] - MARGIN)) / 100 for m in ("knn", "linear")}
    return {**{m: f">= {bound:g}" for m, bound in bounds.items()}, "rank": f">= {math.floor(worst['rank'] * 2 / 3)}"}


def state(recipe: str, expect: dict[str, str]) -> None:
    """Put thresholds into a recipe, as the last lines of its file."""
    file = FOLDER / f"{recipe}.yaml"
    kept = file.read_text().partition("  report:")[0].rstrip()
    bounds = ", ".join(f'{name}: "{bound}"' for name, bound in expect.items())
    file.write_text(f"{kept}\n  report: {{expect: {{{bounds}}}}}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="*", default=recipes())
    parser.add_argument("--seeds", nargs="*", type=int, default=[7, 8, 9])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--write", action="store_true", help="state the thresholds in the recipes")
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "margin": MARGIN, "recipes": {}}
    if options.out and options.out.exists():
        result |= {"recipes": json.loads(options.out.read_text())["recipes"]}
    for recipe in options.recipes:
        row = result["recipes"].setdefault(recipe, {"seeds": {}})
        for seed in options.seeds:
            if str(seed) not in row["seeds"]:
                row["seeds"][str(seed)] = measured(recipe, seed)
                row["expect"] = thresholds(row["seeds"])
                if options.out:
                    options.out.write_text(json.dumps(result, indent=1) + "\n")
        if options.write:
            state(recipe, row["expect"])
    finish(result, options.out)


if __name__ == "__main__":
    main()
