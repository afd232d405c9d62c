"""What benchmarks share that run a whole pipeline with several seeds: running it, and means with confidence intervals."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from scipy.stats import t


def run(pipeline: Path, workspace: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Run a pipeline with a seed; what `sslflow run --json` prints."""
    sets = [word for override in [f"seed={seed}", *overrides] for word in ("--set", override)]
    command = [str(Path(sys.executable).with_name("sslflow")), "run", str(pipeline), "--workspace", str(workspace), "--json", *sets]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the pipeline failed: {done.stdout[-2000:]}")
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def parameters(folder: Path, **others: Any) -> list[str]:
    """Overrides of parameters: `images` is a folder of train/CLASS/* and test/CLASS/*."""
    images = {"kind": "folder", "path": str(folder.resolve()), "labels": True, "splits": True}
    return [f"params.{name}={json.dumps(value)}" for name, value in {"images": images, **others}.items()]


def interval(values: list[float]) -> dict[str, float]:
    """Mean and half of its 95 % confidence interval (Student's t) over seeds, in per cent."""
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {"mean": round(100 * statistics.mean(values), 2), "half_interval": round(100 * half, 2)}


def told(value: dict[str, Any]) -> str:
    """An interval as a table has it; empty where there is none."""
    return f"{value['mean']:.1f} ± {value['half_interval']:.1f}" if value else ""
