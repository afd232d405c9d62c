"""Executions with artifacts of a few bytes, written to MLflow as a run writes them, and a reader of what came."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.pipeline import Pipeline
from ssl_tasks.artifacts import draft, seal
from workflows.engine import mlflow_store
from workflows.engine.mlflow_tracker import Execution, StageRun
from workflows.engine.reuse import Plan, make_plan

VERSION = "0123456789abcdef0123456789abcdef.dir"
RESNET = {"name": "resnet10t", "image_size": 32}


def plan_of(workspace: Path, name: str = "digits", epochs: int = 3) -> Plan:
    stages = {
        "raw": {"kind": "ingest", "source": {"kind": "digits"}},
        "teacher[seed=0]": {"kind": "pretrain", "dataset": "raw", "method": {"kind": "simclr"}, "encoder": RESNET, "train": {"epochs": epochs}},
        "students": {
            "kind": "distill",
            "dataset": "raw",
            "teacher": "teacher[seed=0]",
            "method": {"kind": "feature"},
            "students": {"small": RESNET, "tiny": {**RESNET, "image_size": 64}},
        },
        "report": {"kind": "evaluate", "dataset": "raw", "models": ["students.small"], "protocols": [{"kind": "knn"}]},
    }
    plan = make_plan(Pipeline.model_validate({"name": name, "stages": stages}), workspace, {"raw": VERSION}, data_version=VERSION)
    if not plan.artifacts(plan.stages["raw"]):
        make_artifacts(plan, "raw")
    return plan


def begin(plan: Plan, run_id: str, say: Callable[[str], None] = print) -> Execution:
    spool = plan.workspace / ".sslflow/runs" / run_id / "spool.jsonl"
    facts = {"git_commit": "0a1b2c-dirty", "torch": "2.11"}
    return Execution(plan.workspace, plan.pipeline, "name: digits  # as written", facts, VERSION, run_id, spool, say)


def stage(execution: Execution, plan: Plan, name: str) -> StageRun:
    return execution.stage(plan.stages[name], plan.job(plan.stages[name]))


def log(run: StageRun, step: int, **values: float) -> None:
    run.follow({"event": "metrics", "time": 1e9 + step, "step": step, "values": values})


def make_artifacts(plan: Plan, name: str) -> dict[str, Any]:
    """What the stage would make, with payloads of a few bytes."""
    planned = plan.stages[name]
    job, made = plan.job(planned), {}
    for output in job.outputs:
        folder = draft(job, output)
        fields: dict[str, Any] = {"metrics": {"knn@1": 0.98}}
        if planned.stage.makes == "Report":
            (folder / "figures").mkdir()
            for file in ("report.html", "results.json", "figures/map.png"):
                (folder / file).write_text("{}")
        elif planned.stage.makes == "Dataset":
            (folder / "manifest.parquet").write_text("rows")
            fields |= {"rows": 4, "kept": 3}
        else:
            curve = [{"step": step, "train/loss": 1 / (step + 1)} for step in range(5)]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve))
            fields |= {"encoder": RESNET, "mean": [0.5], "std": [0.5], "dim": 512, "exported": "student encoder"}
        made[output] = seal(job, folder, output, **fields)
    return made


class Reader:
    """Reads back what is in a store."""

    def __init__(self, uri: str) -> None:
        mlflow_store.set_environment()
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def runs(self, execution: str) -> dict[str, Any]:
        """The runs of one execution by the stage's name; the parent's is empty."""
        experiments = [e.experiment_id for e in self.client.search_experiments()]
        found = self.client.search_runs(experiments, f"tags.`sslflow.execution` = '{execution}'")
        return {r.data.tags.get("sslflow.stage", ""): r for r in found}

    def history(self, run: Any, metric: str) -> list[tuple[int, float]]:
        return sorted((m.step, m.value) for m in self.client.get_metric_history(run.info.run_id, metric))

    def files(self, run: Any, folder: str = "") -> list[str]:
        return sorted(f.path for f in self.client.list_artifacts(run.info.run_id, folder or None))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One workspace for the module: making an MLflow database takes two seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield tmp_path_factory.mktemp("a workspace")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
