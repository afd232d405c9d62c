"""What benchmarks share that run a whole pipeline with several seeds: options, running it, means with confidence intervals, the page of results."""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scipy.stats import t

RESULTS = Path(__file__).parent


def parser_of(description: str | None, workspace: str, such_as: str) -> argparse.ArgumentParser:
    """The options that each has; `such_as` is an override that makes it short."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--workspace", type=Path, default=Path(workspace))
    parser.add_argument("--set", nargs="*", default=[], dest="sets", help=f"further overrides, such as {such_as}")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", action="store_true")
    return parser


def overrides_of(options: argparse.Namespace, **others: Any) -> list[str]:
    """Where there is `--data`, a folder of train/CLASS/* and test/CLASS/*, it is the parameter `images`, beside others; then those of `--set`."""
    if not options.data:
        return list(options.sets)
    images = {"kind": "folder", "path": str(options.data.resolve()), "labels": True, "splits": True}
    return [*(f"params.{name}={json.dumps(value)}" for name, value in {"images": images, **others}.items()), *options.sets]


def run(pipeline: Path, workspace: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Run a pipeline with a seed; what `sslflow run --json` prints."""
    workspace.mkdir(parents=True, exist_ok=True)
    sets = [word for override in [f"seed={seed}", *overrides] for word in ("--set", override)]
    command = [str(Path(sys.executable).with_name("sslflow")), "run", str(pipeline), "--workspace", str(workspace), "--json", *sets]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the pipeline failed: {done.stdout[-2000:]}")
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def interval(values: list[float]) -> dict[str, float]:
    """Mean and half of its 95 % confidence interval (Student's t) over seeds, in per cent."""
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {"mean": round(100 * statistics.mean(values), 2), "half_interval": round(100 * half, 2)}


def told(value: dict[str, Any]) -> str:
    """An interval as a table has it; empty where there is none."""
    return f"{value['mean']:.1f} ± {value['half_interval']:.1f}" if value else ""


def page(introduction: str, benchmark: str, tables: Callable[[dict[str, Any]], list[str]]) -> str:
    """The page of results, a section for each set of images, from the files that earlier runs left."""
    lines = [introduction]
    for path in sorted(RESULTS.glob(f"{benchmark}_*.json")):
        result = json.loads(path.read_text())
        on = result["machine"]
        lines += [
            f"## {path.stem.removeprefix(f'{benchmark}_')}\n",
            f"Seeds {', '.join(map(str, result['seeds']))}; {on['gpu'] or on['cpu']}, torch {on['torch']}.\n",
        ]
        lines += tables(result)
    return "\n".join(lines).rstrip() + "\n"
