"""Running a pipeline from its file: load, plan, execute, record. What `sslflow run` and a deployed flow both call."""

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from schemas.annotations import places
from schemas.artifacts import Artifact, sha256
from schemas.errors import UserError
from schemas.load import load, warnings
from schemas.pipeline import Pipeline
from schemas.sources import Digits, on_disk
from schemas.stages import Curate, Distill, Evaluate, Ingest, Pretrain, Stage, embedding_files, student_files
from ssl_tasks.data.fingerprint import fingerprint, of_annotations
from workflows.engine import dvc_data, ledger
from workflows.engine.environment import environment
from workflows.engine.reuse import Plan, make_plan

LATEST = Path(".sslflow/latest")
Listen = Callable[[str, dict[str, Any]], None]
"""Told of each stage's events: `{"event": "state" | "progress" | "metrics" | "note" | "params", ...}`."""


def unheard(_stage: str, _event: dict[str, Any]) -> None:
    """The listener of a run that nobody watches."""


@dataclass(frozen=True)
class Selection:
    """Which part of a pipeline is asked for, and what of it runs again though it is made; see `reuse.make_plan`."""

    start: str = ""
    until: str = ""
    force: Collection[str] = ()


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `record` is the ledger's; empty if there was nothing to do."""

    status: Literal["nothing to do", "done", "failed", "cancelled"]
    plan: Plan
    record: dict[str, Any]


def plan_pipeline(file: Path, workspace: Path, overrides: Sequence[str] = (), params: Mapping[str, Any] | None = None, select: Selection | None = None) -> Plan:
    """Load the file and decide what would run. Writes nothing.

    Raises:
        schemas.errors.UserError: if the file is invalid or a source is missing.
    """
    pipeline = load(file, overrides, params)
    select = select or Selection()
    version = dvc_data.version(workspace)
    return make_plan(
        pipeline,
        workspace,
        {name: stamp for name, stage in pipeline.stages.items() if (stamp := _stamp(name, stage, workspace, version))},
        previous=ledger.last_keys(workspace, pipeline.name),
        start=select.start,
        until=select.until,
        force=select.force,
        data_version=version,
        environment=environment(workspace),
    )


def run_pipeline(
    file: Path,
    workspace: Path,
    overrides: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    select: Selection | None = None,
    listen: Listen = unheard,
    on_plan: Callable[[Plan], None] | None = None,
) -> Outcome:
    """Run what is not made yet, by Prefect, tracked in MLflow, on data checked by DVC.

    Raises:
        schemas.errors.UserError: before any work, if the request cannot be carried out.
    """
    workspace = workspace.resolve()
    pipeline = load(file, overrides, params)
    _check_disk(workspace)
    with ledger.Exclusive(workspace, pipeline.name):
        prepare_data(pipeline, workspace)
        plan = plan_pipeline(file, workspace, overrides, params, select)
        if on_plan:
            on_plan(plan)
        if not plan.todo:
            return Outcome("nothing to do", plan, {})
        for doubt in warnings(file, overrides, params):
            listen("warning", {"event": "note", "message": str(doubt)})
        outcome = _execute(plan, file, overrides, params or {}, listen)
        _point_to_latest(plan)
        if outcome.status != "cancelled" and (note := dvc_data.keep_manifests(workspace, _manifests(plan))):
            listen("dvc", {"event": "note", "message": note})
        return outcome


def prepare_data(pipeline: Pipeline, workspace: Path) -> None:
    """Put the raw images in place and check them against `data.dvc`, where that covers them.

    Raises:
        schemas.errors.UserError: if the bytes are not those that `data.dvc` names.
    """
    sources = [s.source for s in pipeline.stages.values() if isinstance(s, Ingest)]
    generated = [s for s in sources if isinstance(s, Digits)]
    if any(not (workspace / s.path).exists() for s in generated):
        from ssl_tasks.data.sources import materialise

        for source in generated:
            materialise(source, workspace)
    if any(dvc_data.covers(workspace, path) for source in sources if (path := on_disk(source))):
        dvc_data.check(workspace)


def _stamp(name: str, stage: Stage, workspace: Path, version: str) -> str:
    """What stands for the bytes that a stage reads besides artifacts; empty where it reads none."""
    if isinstance(stage, Pretrain) and stage.init_from and stage.init_from.file:
        return _sha256_of_weights(f"stages.{name}.init_from.file", workspace / stage.init_from.file)
    if isinstance(stage, Distill):
        starts = {f"stages.{name}.students.{student}.init_from.file": workspace / file for student, file in student_files(stage).items()}
        return "+".join(_sha256_of_weights(key, path) for key, path in starts.items())
    if isinstance(stage, Curate):
        files = {f"stages.{name}.steps.{i}.embedding.file": workspace / file for i, file in embedding_files(stage)}
        return "+".join(dict.fromkeys(_sha256_of_weights(key, path) for key, path in files.items()))
    if isinstance(stage, Evaluate):
        named = [(f"stages.{name}.protocols: {kind}.{field}", workspace / path) for kind, field, path in places(stage.protocols)]
        return "+".join(dict.fromkeys(of_annotations(key, path) for key, path in named))
    if not isinstance(stage, Ingest):
        return ""
    if (path := on_disk(stage.source)) and dvc_data.covers(workspace, path):
        return version
    return fingerprint(stage.source, workspace)


def _sha256_of_weights(key: str, path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(f"{key}: cannot read {path} ({error.strerror}); the path is relative to the workspace") from None


def _execute(plan: Plan, file: Path, overrides: Sequence[str], params: Mapping[str, Any], listen: Listen) -> Outcome:
    from workflows.engine import flow, mlflow_tracker

    workspace, name = plan.workspace, plan.pipeline.name
    mlflow_tracker.check(mlflow_tracker.tracking_uri(workspace))
    flow.check(plan)
    record = ledger.Run(workspace, name, file=str(file), overrides=list(overrides), params=dict(params), environment=plan.environment)
    for planned in plan.stages.values():
        state = planned.status if planned.status in ("reused", "skipped") else "planned"
        record.stage(planned.name, status=state, kind=planned.stage.kind, reason=planned.reason, key=planned.key, outputs=planned.outputs)
    text = file.read_text(encoding="utf-8")
    (record.folder / "pipeline.yaml").write_text(text, encoding="utf-8")
    listen(name, {"event": "note", "message": f"{len(plan.todo)} of {len(plan.stages)} stages to run; starting Prefect"})
    status: Literal["done", "failed", "cancelled"] = "failed"
    try:
        experiment = mlflow_tracker.Execution(
            workspace,
            plan.pipeline,
            text,
            plan.environment,
            _version(plan),
            record.id,
            record.folder / "spool.jsonl",
            say=lambda message: listen("mlflow", {"event": "note", "message": message}),
        )
        try:
            record.note(mlflow=experiment.url)
            status = "done" if flow.execute(plan, record, experiment, listen) else "failed"
        except KeyboardInterrupt:
            status = "cancelled"
        finally:
            ledger.keep(record.folder, references(plan))
            experiment.finish(status, results(plan))
    finally:
        record.finish(status)
    return Outcome(status, plan, record.record)


def latest(plan: Plan, reference: str) -> Path:
    """Where the newest artifact of `students.small` or `report` is found by its name."""
    return plan.workspace / LATEST / plan.pipeline.name / reference


def _point_to_latest(plan: Plan) -> None:
    """Links with the names of the pipeline, each to what the run made or reused."""
    for planned in plan.stages.values():
        for output, artifact in plan.artifacts(planned).items():
            link = latest(plan, f"{planned.name}.{output}" if output else planned.name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(artifact.folder, link.parent))


def _manifests(plan: Plan) -> dict[str, Path]:
    """Of each Dataset that is made, the manifest."""
    datasets = (p for p in plan.stages.values() if p.stage.makes == "Dataset" and p.status != "skipped")
    return {f"{plan.pipeline.name}/{p.name.replace('/', '_')}": a.path("manifest.parquet") for p in datasets for a in plan.artifacts(p).values()}


def references(plan: Plan) -> dict[str, Artifact]:
    """What is made of a plan, by reference: `teacher`, `students.small`."""
    return {f"{p.name}.{o}" if o else p.name: a for p in plan.stages.values() if p.status != "skipped" for o, a in plan.artifacts(p).items()}


def results(plan: Plan) -> dict[str, float]:
    """The figures of every report of a plan that is made, by stage and name."""
    reports = [p for p in plan.stages.values() if p.stage.kind == "evaluate"]
    return {f"{p.name}/{name}": value for p in reports for a in plan.artifacts(p).values() for name, value in a.metrics.items()}


def _version(plan: Plan) -> str:
    return "+".join(dict.fromkeys(v for v in plan.data_versions.values() if v))


def _check_disk(workspace: Path) -> None:
    """Refuse to start where nothing could be written: a read-only folder, or less than 50 MB free."""
    folder = workspace / ".sslflow"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").write_text("")
        (folder / ".writable").unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; make it writable or run in another folder") from None
    if (free := shutil.disk_usage(folder).free) < 50_000_000:
        raise UserError(f"only {free // 1_000_000} MB free on the disk of {folder}; free some space, old artifacts are in {folder / 'artifacts'}")
