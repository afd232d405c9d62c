"""What `run` and `show` print: how a run ended, and the chain behind a number."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from schemas.artifacts import Artifact, Checkpoint, Dataset, Export, read
from schemas.stages import Stage
from workflows.engine import lineage
from workflows.engine.display import console, duration, result_table, state
from workflows.engine.reuse import flatten
from workflows.engine.run import Outcome, latest, results

LOAD = """
load a student in Python:
  from ssl_tasks import load
  student = load("{folder}")
  features = student.embed(["IMAGE", ...])  # one row of {dim} numbers an image
"""


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """How a run ended, as one JSON document: stages, where they are, and the figures of the reports."""
    run = {"run": outcome.record.get("id"), "mlflow": outcome.record.get("mlflow")}
    return {"pipeline": outcome.plan.pipeline.name, "status": outcome.status, **run, "stages": _stages(outcome), "results": results(outcome.plan)}


def print_outcome(out: Console, outcome: Outcome) -> None:
    """Say what each stage came to, then the result table, where the report is, and how to go on."""
    for name, stage in _stages(outcome).items():
        if stage["status"] in ("reused", "failed", "skipped", "cancelled"):
            out.print(f"{escape(name)}: {state(stage['status'])} ({escape(stage.get('error') or stage['reason'])})", highlight=False)
    took = f" in {duration(outcome.record['seconds'])}" if outcome.record else ""
    out.print(f"{outcome.plan.pipeline.name}: {outcome.status}{took}", highlight=False)
    for planned in outcome.plan.stages.values():
        for artifact in outcome.plan.artifacts(planned).values() if planned.stage.kind == "evaluate" else ():
            out.print(f"\n[bold]{escape(planned.name)}[/]", highlight=False)
            out.print(result_table(json.loads(artifact.path("results.json").read_text())["rows"]))
            out.print(f"\nreport:  {latest(outcome.plan, planned.name) / 'report.html'}\nMLflow:  sslflow ui", highlight=False, markup=False, soft_wrap=True)
    for planned in outcome.plan.stages.values():
        if planned.stage.kind == "curate" and any("report.html" in artifact.files for artifact in outcome.plan.artifacts(planned).values()):
            out.print(f"curated: {latest(outcome.plan, planned.name) / 'report.html'}", highlight=False, markup=False, soft_wrap=True)
    for planned in outcome.plan.stages.values():
        for artifact in outcome.plan.artifacts(planned).values():
            if isinstance(artifact, Export):
                told = f"exported: {latest(outcome.plan, planned.name)} ({', '.join(artifact.formats)}; README.md is the model card)"
                out.print(told, highlight=False, markup=False, soft_wrap=True)
    students = [(p, o) for p in outcome.plan.stages.values() if p.stage.kind == "distill" for o in outcome.plan.artifacts(p)]
    if students and outcome.status in ("done", "nothing to do"):
        planned, output = students[0]
        student = outcome.plan.artifacts(planned)[output]
        assert isinstance(student, Checkpoint)
        out.print(LOAD.format(folder=latest(outcome.plan, f"{planned.name}.{output}"), dim=student.dim), highlight=False, markup=False, soft_wrap=True)


def _stages(outcome: Outcome) -> dict[str, dict[str, Any]]:
    recorded = outcome.record.get("stages", {})
    planned = {p.name: {"kind": p.stage.kind, "status": p.status, "reason": p.reason, "outputs": p.outputs} for p in outcome.plan.stages.values()}
    return {name: {**stage, **recorded.get(name, {})} for name, stage in planned.items()}


def artifact_json(workspace: Path, artifact: Artifact) -> dict[str, Any]:
    """The artifact, the runs that made or used it, and all that it was made from."""
    parents = [a for _, a in lineage.chain(workspace, artifact)][1:]
    stated = {**artifact.model_dump(mode="json"), "folder": str(artifact.folder), "runs": lineage.runs_of(workspace, artifact.key)}
    return {**stated, "lineage": [{"stage": a.stage, "type": a.type, "key": a.key, "data_version": a.data_version, "metrics": a.metrics} for a in parents]}


def print_artifact(workspace: Path, artifact: Artifact) -> None:
    """Explain an artifact: its metrics, and the chain down to the data, each link with its config and commit."""
    out = console()
    out.print(f"[bold]{escape(artifact.stage)}[/] {artifact.type} {artifact.key}", highlight=False)
    out.print(str(artifact.folder), style="dim", highlight=False, markup=False, soft_wrap=True)
    if artifact.metrics:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for name, value in artifact.metrics.items():
            table.add_row(name, f"{value:,.4g}")
        out.print(table)
    branches: dict[int, Tree] = {}
    for depth, link in lineage.chain(workspace, artifact):
        label = f"[bold]{escape(link.stage)}[/] {link.type} {link.key}"
        branches[depth] = branches[depth - 1].add(label) if depth else Tree(label)
        for line in _facts(link):
            branches[depth].add(f"[dim]{escape(line)}[/]")
    out.print(branches[0], highlight=False)
    for run in lineage.runs_of(workspace, artifact.key)[:5]:
        out.print(f"run {run}", style="dim", highlight=False)


def _whole(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config as its artifact states it, valid again: a student's budget stands with it alone, and the stage's must be the same."""
    students = list(config.get("students", {}).values())
    return {**config, "train": students[0]["train"]} if students else config


def _facts(link: Artifact) -> list[str]:
    """What made a link of the chain: the config where it differs from the defaults, the images, the data and the code."""
    stage = TypeAdapter(Stage).validate_python(_whole(link.config))
    stated = dict(flatten(stage.model_dump(mode="json", exclude_defaults=True)))
    facts = [", ".join(f"{path}={value}" for path, value in flatten(link.config) if path in stated or path.endswith(".kind"))]
    if isinstance(link, Dataset):
        facts.append(f"{link.kept:,} train images kept of {link.rows:,} images, manifest sha256 {link.manifest[:12]}")
    if isinstance(link, Export):
        facts.append(f"{', '.join(link.formats)}, each as the original")
        facts += [f"{name} not made: {reason}" for name, reason in link.refused.items()]
    if link.data_version:
        facts.append(f"data.version {link.data_version}")
    if commit := link.environment.get("git_commit"):
        facts.append(f"git {commit[:12]}{'-dirty' if commit.endswith('-dirty') else ''}")
    return facts


def print_run(workspace: Path, record: dict[str, Any]) -> None:
    """Explain a run: each stage's state, time and reason, then the results and where they are tracked."""
    out = console()
    out.print(f"[bold]{record['id']}[/] {state(record['status'])}, started {record['started']}, file {record.get('file', '')}", highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("stage", "status", "took", "key", "why"):
        table.add_column(column, overflow="fold")
    for name, stage in record["stages"].items():
        took = duration(stage["seconds"]) if "seconds" in stage else ""
        table.add_row(escape(name), state(stage["status"]), took, stage.get("key", ""), escape(stage.get("error") or stage.get("reason", "")))
    out.print(table)
    for name, stage in record["stages"].items():
        for output, key in stage.get("outputs", {}).items():
            artifact = workspace / ".sslflow/artifacts" / key / "artifact.json"
            if stage.get("kind") == "evaluate" and artifact.exists():
                for metric, value in read(artifact.parent).metrics.items():
                    out.print(f"{name}{'.' + output if output else ''} {metric} {value:.4g}", highlight=False, markup=False)
    if record.get("mlflow"):
        out.print(f"mlflow: {record['mlflow']}", highlight=False, soft_wrap=True)
