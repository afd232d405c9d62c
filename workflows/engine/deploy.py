"""Deploy: a pipeline as a Prefect deployment, with typed parameters and a schedule, that any worker on its host can run."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.errors import UserError
from schemas.load import load
from schemas.pipeline import Schedule
from workflows.engine import servers
from workflows.engine.flow import check_pool

ENTRYPOINT = "workflows.engine.deployed.pipeline"
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def deploy(file: Path, pool: str, cron: str | None = None, name: str | None = None, overrides: Sequence[str] = (), workspace: Path = Path(".")) -> str:
    """Register a pipeline on the Prefect server; a deployment of the same name is replaced.

    Args:
        pool: the work pool whose workers run it.
        cron: when it runs by itself; the file's `schedule` where not given.
        name: of the deployment; the pipeline's where not given.
        overrides: as after `--set`, for every run.

    Returns:
        What `prefect deployment run` takes.

    Raises:
        UserError: if the file is invalid or wants another pool, or the server or the pool is not there.
    """
    pipeline = load(file, overrides)
    for stage_name, stage in pipeline.stages.items():
        check_pool(stage_name, stage, pool)
    schedule = _schedule(cron, pipeline.schedule)
    values = {"file": str(file.resolve()), "workspace": str(workspace.resolve()), "overrides": list(overrides), "params": {}}
    values |= {"force": pipeline.schedule.force} if pipeline.schedule and pipeline.schedule.force else {}
    with servers.named():
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import DeploymentScheduleCreate
        from prefect.client.schemas.schedules import CronSchedule
        from prefect.exceptions import ObjectNotFound

        with get_client(sync_client=True) as client:
            try:
                client.read_work_pool(pool)
            except ObjectNotFound:
                raise UserError(f"no work pool '{pool}' on the Prefect server; make it with: prefect work-pool create {pool} --type process") from None
            client.create_deployment(
                flow_id=client.create_flow_from_name(pipeline.name),
                name=name or pipeline.name,
                version=hashlib.sha256(file.read_bytes()).hexdigest()[:12],
                description=pipeline.description or f"sslflow pipeline {file.name}",
                tags=["sslflow", *sorted({stage.kind for stage in pipeline.stages.values()})],
                entrypoint=ENTRYPOINT,
                work_pool_name=pool,
                parameters=values,
                parameter_openapi_schema=parameter_schema(pipeline.params),
                enforce_parameter_schema=True,
                schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron=schedule.cron, timezone=schedule.timezone))] if schedule else [],
            )
    return f"{pipeline.name}/{name or pipeline.name}"


def scheduled(folder: Path) -> list[Path]:
    """The pipelines of a folder that state when they run.

    Raises:
        UserError: where one is invalid, or none is scheduled.
    """
    found = [file for file in sorted(folder.glob("*.yaml")) if load(file).schedule]
    if not found:
        raise UserError(f"{folder} has no pipeline with a `schedule`; name the file that is to be deployed")
    return found


def _schedule(cron: str | None, stated: Schedule | None) -> Schedule | None:
    if cron is None:
        return stated
    try:
        return Schedule(cron=cron, timezone=stated.timezone if stated else "UTC", force=stated.force if stated else [])
    except ValidationError as error:
        raise UserError(f"--cron '{cron}': {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def parameter_schema(params: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema of what a run of the deployment takes. `params` has the file's parameters, each of the type of its value there."""
    return {
        "type": "object",
        "title": "Parameters",
        "properties": {
            "params": {
                "type": "object",
                "title": "params",
                "position": 0,
                "description": "parameters of the pipeline",
                "properties": {name: _property(name, value) for name, value in params.items()},
                "additionalProperties": False,
            },
            "overrides": {"type": "array", "title": "overrides", "position": 1, "items": {"type": "string"}, "description": "as after --set: stages.x.y=5"},
            "force": {"type": "array", "title": "force", "position": 4, "items": {"type": "string"}, "description": "stages that are made again"},
            "file": {"type": "string", "title": "file", "position": 2, "description": "the pipeline's YAML on the worker's host"},
            "workspace": {"type": "string", "title": "workspace", "position": 3, "description": "folder with .sslflow and data on the worker's host"},
        },
        "required": ["file", "workspace"],
        "additionalProperties": False,
    }


def _property(name: str, value: Any) -> dict[str, Any]:
    kind = _TYPES.get(type(value))
    return {"title": name, "default": value, **({"type": kind} if kind else {})}
