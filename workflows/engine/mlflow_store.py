"""The one place that imports MLflow to track: applies operations of a spool to a tracking server or database."""

import os
import re
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from workflows.engine.mlflow_spool import Operation, Unreachable

ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""What MLflow must find before it is imported: no telemetry, no noise, no minutes of waiting. A user's own values go before these."""

_REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE", "BAD_REQUEST", "MALFORMED_REQUEST"}
_METRICS, _PARAMS = 1000, 100
"""What one `log_batch` takes at most."""
_TRIES = 5
"""At making a row that other runs make at the same moment."""


def set_environment() -> None:
    """Make MLflow quiet and quick to give up, in this process and its children."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


class Store:
    """An MLflow experiment that operations are applied to.

    Args:
        uri: of the tracking store.
        experiment: its name; made where it is not there yet, restored where it was deleted.
        artifacts: address for the experiment's files; empty leaves it to the server.
        execution: id of our run, by which runs that were made before are found again.

    Raises:
        Unreachable: if the store cannot be used now.
    """

    def __init__(self, uri: str, experiment: str, artifacts: str, execution: str) -> None:
        set_environment()
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self._refusal = MlflowException
        self._execution = execution
        try:
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            self.experiment = self._experiment(experiment, artifacts)
        except (MlflowException, OSError) as error:
            raise Unreachable(first_line(error)) from error

    def _experiment(self, name: str, artifacts: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=artifacts or None))
            except self._refusal as error:
                found = self._client.get_experiment_by_name(name)
                if found is None:  # not made by another run in between
                    raise error
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def send(self, operations: list[Operation], ids: dict[str, str]) -> tuple[int, list[str]]:
        """Apply the operations at the front that go together: either all logging up to the next other one, or that one.

        Raises:
            Unreachable: if the store cannot be used now.
        """
        logs = list(takewhile(lambda operation: operation["do"] == "log", operations))
        refused: list[str] = []
        try:
            if logs:
                for run in dict.fromkeys(o["run"] for o in logs):
                    refused += self._log(ids.get(run, ""), [o for o in logs if o["run"] == run])
            else:
                self._apply(operations[0], ids)
        except self._refusal as error:
            self._judge(error, refused)
        except FileNotFoundError as error:
            refused.append(str(error))
        except OSError as error:
            raise Unreachable(first_line(error)) from error
        return len(logs) or 1, refused

    def _judge(self, error: Any, refused: list[str]) -> None:
        """Tell what the store will never take from what it cannot take now, such as a row that another run makes at this moment."""
        if error.error_code not in _REFUSALS or _row_is_there(error):
            raise Unreachable(first_line(error)) from error
        refused.append(first_line(error))

    def _log(self, run: str, logs: list[Operation]) -> list[str]:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(*point) for log in logs for point in log.get("metrics", ())]
        params = [Param(k, v) for log in logs for k, v in log.get("params", {}).items()]
        tags = [RunTag(k, v) for k, v in {k: v for log in logs for k, v in log.get("tags", {}).items()}.items()]
        refused: list[str] = []
        batches: list[dict[str, Any]] = [{"metrics": metrics[i : i + _METRICS]} for i in range(0, len(metrics), _METRICS)]
        batches += [{"params": params[i : i + _PARAMS]} for i in range(0, len(params), _PARAMS)]
        batches += [{"tags": tags[i : i + _PARAMS]} for i in range(0, len(tags), _PARAMS)]
        for batch in batches:
            try:
                self._client.log_batch(run, **batch)
            except self._refusal as error:
                self._judge(error, refused)
        return refused

    def _apply(self, operation: Operation, ids: dict[str, str]) -> None:
        run = ids.get(operation["run"], "")
        match operation["do"]:
            case "start":
                self._start(operation, ids)
            case "input":
                self._input(run, operation)
            case "text":
                self._client.log_text(run, operation["text"], operation["name"])
            case "file":
                self._client.log_artifact(run, operation["path"], operation["folder"] or None)
            case "link":
                self._link(run, operation)
            case "pyfunc":
                self._pyfunc(run, operation)
            case "register":
                self._register(run, operation)
            case "alias":
                self._alias(operation["name"], operation["alias"], operation["key"])
            case "end":
                self._client.set_terminated(run, operation["status"], operation["time"])

    def _start(self, operation: Operation, ids: dict[str, str]) -> None:
        """Make the run, or open it again: after a failed try, or where it was made but the answer was lost."""
        name, tags = operation["run"], dict(operation["tags"])
        if name not in ids:
            before = self._client.search_runs([self.experiment], f"tags.`sslflow.execution` = '{self._execution}'", max_results=1000)
            ids.update({r.data.tags.get("sslflow.stage", ""): r.info.run_id for r in before})
        if name:
            tags["mlflow.parentRunId"] = ids.get("", "")
        if name in ids:
            self._client.update_run(ids[name], status="RUNNING")
            self._log(ids[name], [{"tags": tags}])
        else:
            made = self._client.create_run(self.experiment, operation["time"], tags, operation["name"])
            ids[name] = made.info.run_id

    def _input(self, run: str, operation: Operation) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset(name=operation["name"], digest=operation["digest"], source_type="local", source=operation["source"])
        tags = {"mlflow.data.context": operation["context"], **operation["tags"]}
        self._although_made_by_another(lambda: self._client.log_inputs(run, [DatasetInput(data, [InputTag(k, v) for k, v in tags.items()])]))

    def _although_made_by_another(self, act: Callable[[], object]) -> None:
        """Do it again where another run made the same row between MLflow's look for it and its own try to make it."""
        for _ in range(_TRIES - 1):
            try:
                act()
                return
            except self._refusal as error:
                if not _row_is_there(error):
                    raise
                time.sleep(0.02)
        act()

    def _link(self, run: str, operation: Operation) -> None:
        """Tag a reused stage with the run that made its artifact, where that is still known."""
        experiments = [e.experiment_id for e in self._client.search_experiments(max_results=1000)]
        filter_string = f"tags.`{operation['tag']}` = '{operation['key']}' AND attributes.status = 'FINISHED'"
        found = self._client.search_runs(experiments, filter_string, order_by=["attributes.start_time ASC"], max_results=50)
        for maker in found:
            if "sslflow.reused" not in maker.data.tags:
                where = f"#/experiments/{maker.info.experiment_id}/runs/{maker.info.run_id}"
                tags = {"sslflow.reused_from": maker.info.run_id, "mlflow.note.content": f"Reused from the run [{maker.info.run_name}]({where})."}
                self._log(run, [{"tags": tags}])
                return

    def _pyfunc(self, run: str, operation: Operation) -> None:
        """Describe a folder of the run's files as a model that `mlflow.pyfunc` loads by a module of ours."""
        from mlflow import pyfunc
        from mlflow.models import Model

        model = Model(artifact_path=operation["folder"], run_id=run)
        pyfunc.add_to_model(model, loader_module=operation["loader"], data=operation["data"])
        self._client.log_text(run, model.to_yaml(), f"{operation['folder']}/MLmodel")

    def _register(self, run: str, operation: Operation) -> None:
        """Register a folder of the run's files as a version of a model: one for each artifact, with its lineage as tags."""
        name, key = operation["name"], operation["tags"]["sslflow.key"]
        try:
            self._client.create_registered_model(name)
        except self._refusal as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        if self._version(name, key) is None:
            source = f"{self._client.get_run(run).info.artifact_uri}/{operation['folder']}"
            self._client.create_model_version(name, source, run, tags=operation["tags"], await_creation_for=0)
        if operation.get("alias"):
            self._alias(name, operation["alias"], key)

    def _version(self, name: str, key: str) -> str | None:
        """The version of a registered model that an artifact is."""
        versions = self._client.search_model_versions(f"name = '{name}'", max_results=1000)
        return next((str(v.version) for v in versions if v.tags.get("sslflow.key") == key), None)

    def _alias(self, name: str, alias: str, key: str) -> None:
        """Let an alias point to the version that an artifact is, where there is one."""
        if version := self._version(name, key):
            self._client.set_registered_model_alias(name, alias, version)


def _row_is_there(error: BaseException) -> bool:
    return "unique constraint" in str(error).lower()


def first_line(error: BaseException) -> str:
    """An error as part of one line: what a person needs of MLflow's long messages."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    reason = re.search(r"Connection refused|timed out|Name or service not known|database is locked|readonly database|disk is full", str(error))
    return reason.group(0).lower() if reason else text[:200]


def file_uri(folder: Path) -> str:
    """Address of a local folder, for MLflow."""
    return folder.resolve().as_uri()
