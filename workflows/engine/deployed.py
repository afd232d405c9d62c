"""What a Prefect worker runs: the flow of a deployment that `sslflow deploy` registered. The only module that imports Prefect when it is loaded."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed


@flow(name="sslflow", persist_result=False)
def pipeline(file: str, workspace: str, overrides: list[str] | None = None, params: dict[str, Any] | None = None, force: list[str] | None = None) -> State[Any]:
    """Run a pipeline as `sslflow run` does; what was made before is reused.

    Args:
        file: the YAML, as a path on the worker's host.
        workspace: the folder with `.sslflow/` and the data, on the worker's host.
        overrides: as after `--set`.
        params: values for the parameters that the YAML declares.
        force: stages that are made again.
    """
    from workflows.engine.run import Selection, run_pipeline

    outcome = run_pipeline(Path(file), Path(workspace), overrides or [], params or {}, Selection(force=force or []))
    if outcome.status == "cancelled":
        return Cancelled(message="interrupted; the next run goes on from the last checkpoint")
    if outcome.status == "failed":
        failed = {n: s.get("error", "") for n, s in outcome.record["stages"].items() if s["status"] == "failed"}
        return Failed(message="; ".join(f"{name} failed: {error}" for name, error in failed.items()))
    return Completed(message=outcome.status)
