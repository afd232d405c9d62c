"""How a run of a pipeline appears in MLflow: a parent run for the execution, a child run for each stage.

Nothing here waits for MLflow or fails because of it: each call queues operations (`mlflow_spool`) that one background thread applies
(`mlflow_store`). MLflow itself is imported by that thread, so that neither the command line nor the first stage waits for it.
"""

import getpass
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from schemas.artifacts import Artifact
from schemas.errors import UserError
from schemas.job import Job
from schemas.pipeline import Pipeline
from schemas.resources import Resources
from workflows.engine.mlflow_models import aliases, file, versions
from workflows.engine.mlflow_spool import Say, Sender, Spool, Unreachable, send_all
from workflows.engine.mlflow_store import Store, file_uri
from workflows.engine.mlflow_ui import check, tracking_uri
from workflows.engine.mlflow_values import clean, conditions, curve, digest, inputs, manifest_hash, now, numbers, params, points
from workflows.engine.reuse import Planned, flatten

__all__ = ["Execution", "StageRun", "check", "resend", "tracking_uri"]

SPOOL = "spool.jsonl"
STATUS = {"done": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
_FIGURES = (".png", ".svg", ".html")
_SPEED_EVERY = 10.0
"""Seconds between two records of a stage's speed."""
_LONGEST_TAG = 5000


class Execution:
    """One execution of a pipeline in MLflow. Its calls return at once and never fail because of a server.

    Args:
        environment: facts of the run, such as `git_commit` and versions.
        run_id: id of the run in our ledger.
        spool: file in the run's ledger folder, named `spool.jsonl`; it is gone once all of it was sent.
        say: shows one line to a person.
    """

    def __init__(
        self,
        workspace: Path,
        pipeline: Pipeline,
        yaml_text: str,
        environment: Mapping[str, str],
        data_version: str,
        run_id: str,
        spool: Path,
        say: Say | None = None,
    ) -> None:
        self._workspace, self._pipeline, self._say = workspace, pipeline, say or _to_stderr
        self._uri = tracking_uri(workspace)
        local = urlsplit(self._uri).scheme == "sqlite"
        header = {
            "uri": self._uri,
            "experiment": pipeline.name,
            "artifacts": file_uri(workspace / "mlartifacts" / pipeline.name) if local else "",
            "execution": run_id,
        }
        self._spool = Spool(spool, header)
        self._tries: dict[str, int] = {}
        self._store: Store | None = None
        self._sender = Sender(self._spool, self._connect, self._say, lambda: resend(workspace, self._say))
        stated = pipeline.model_dump(mode="json")
        self.put("", "start", name=run_id, time=now(), tags=self._tags(run_id, stated, environment, data_version))
        self.put("", "log", params=params({k: v for k, v in stated.items() if k in ("seed", "params", "stages")}))
        self.put("", "text", name="pipeline.yaml", text=yaml_text)
        self.put("", "text", name="pipeline.resolved.yaml", text=yaml.safe_dump(stated, sort_keys=False), now=True)
        self._sender.start()

    def _tags(self, run_id: str, stated: dict[str, Any], environment: Mapping[str, str], data_version: str) -> dict[str, str]:
        tags = {
            "mlflow.source.name": "sslflow",
            "mlflow.source.type": "PROJECT",
            "mlflow.user": _user(),
            "sslflow.execution": run_id,
            "sslflow.config_hash": digest(stated["stages"]),
            "sslflow.workspace": str(self._workspace.resolve()),
            "sslflow.host": socket.gethostname(),
            "data.version": data_version,
            **{f"environment.{name}": value for name, value in environment.items()},
        }
        if commit := environment.get("git_commit"):
            tags |= {"mlflow.source.git.commit": commit.removesuffix("-dirty"), "git.commit": commit}
        return {name: value[:_LONGEST_TAG] for name, value in tags.items() if value}

    def _connect(self) -> Store:
        self._store = Store(**self._spool.header)
        return self._store

    def put(self, run: str, verb: str, *, now: bool = False, **fields: Any) -> None:
        """Queue one operation for a run: `""` is the parent, a stage's name its child."""
        self._sender.put({"do": verb, "run": run, **fields}, now=now)

    def tag(self, name: str, value: str) -> None:
        """Tag the parent run, such as with the address of the Prefect run."""
        self.put("", "log", tags={clean(name): value[:_LONGEST_TAG]})

    def stage(self, planned: Planned, job: Job) -> "StageRun":
        """Open the child run of a stage that begins; opens it again for a further try of the same stage."""
        name = planned.name
        self._tries[name] = self._tries.get(name, 0) + 1
        tags = {
            **self._stage_tags(planned, job.outputs),
            "sslflow.config_hash": digest(_config(job.stage.model_dump(mode="json"))),
            "sslflow.attempt": str(self._tries[name]),
            "data.version": job.data_version,
        }
        self.put(name, "start", name=name, time=now(), tags={k: v for k, v in tags.items() if v}, now=True)
        if self._tries[name] == 1:
            self.put(name, "log", params=params(_config(job.stage.model_dump(mode="json"))))
            self._inputs(planned)
        return StageRun(self, name)

    def reused(self, planned: Planned, artifacts: Mapping[str, Artifact]) -> None:
        """Show a stage that was made before, with the numbers it had then and a link to the run that made it."""
        name = planned.name
        config = {k: v for artifact in artifacts.values() for k, v in flatten(_config(artifact.config))}
        data_version = next((a.data_version for a in artifacts.values()), "")
        tags = {**self._stage_tags(planned, planned.outputs), "sslflow.reused": "true", "data.version": data_version}
        tags |= manifest_hash(artifacts.get(""))
        self.put(name, "start", name=name, time=now(), tags={k: v for k, v in tags.items() if v})
        metrics = [p for o, a in artifacts.items() for p in (*curve(a, o), *points(a.metrics, prefix=o), *numbers(a, o))]
        self.put(name, "log", params=params(config), metrics=metrics)
        self.judged(name, artifacts)
        self._inputs(planned)
        for output, key in planned.outputs.items():
            self.put(name, "link", tag=_key_tag(output), key=key)
        for verb, fields in (operation for artifact in artifacts.values() for operation in aliases(artifact)):
            self.put(name, verb, **fields)
        self.put(name, "end", status="FINISHED", time=now())

    def judged(self, name: str, artifacts: Mapping[str, Artifact]) -> None:
        """State under what a stage's numbers were made, on its run and on the parent, whose table of runs then shows it beside the headline numbers."""
        for artifact in artifacts.values():
            if found := conditions(artifact):
                self.put(name, "log", params=found)
                self.put("", "log", params={f"{clean(name)}/{key}": value for key, value in found.items()})

    def _stage_tags(self, planned: Planned, outputs: Mapping[str, str]) -> dict[str, str]:
        return {
            "sslflow.execution": self._spool.header["execution"],
            "sslflow.stage": planned.name,
            "sslflow.kind": planned.stage.kind,
            "sslflow.reason": planned.reason[:_LONGEST_TAG],
            **{_key_tag(output): key for output, key in outputs.items()},
        }

    def _inputs(self, planned: Planned) -> None:
        for fields in inputs(self._workspace, planned):
            self.put(planned.name, "input", **fields)

    def finish(self, status: str, results: Mapping[str, float], patience: float = 20.0) -> bool:
        """Close the parent run with the headline numbers; whether all was sent.

        Args:
            status: done, failed or cancelled.
            results: such as `report/students.small/knn`.
            patience: seconds to wait for a server that does not answer.
        """
        self.put("", "log", metrics=points(results))
        for run in [r for r in self._spool.open_runs if r]:
            self.put(run, "end", status="KILLED", time=now())
        self.put("", "end", status=STATUS[status], time=now(), now=True)
        complete = self._sender.finish(patience)
        self._spool.close(remove=complete)
        if not complete:
            self._say(f"MLflow at {self._uri} did not take all records; they are kept in {self._spool.path} and sent by the next run")
        return complete

    @property
    def url(self) -> str:
        """Address of the run in MLflow's UI; how to open it where there is no server. Waits up to 20 s for a server to make the run."""
        if urlsplit(self._uri).scheme not in ("http", "https"):
            return "sslflow ui"
        self._sender.settled.wait(20)
        base = self._uri.rstrip("/")
        return f"{base}/#/experiments/{self._store.experiment}/runs/{self._spool.ids['']}" if self._store and "" in self._spool.ids else base


class StageRun:
    """The child run of one stage. `follow` takes the events that the stage's process writes, one by one."""

    def __init__(self, execution: Execution, name: str) -> None:
        self._put, self._judged, self._pipeline = execution.put, execution.judged, execution._pipeline.name
        self._name = name
        self._params: dict[str, str] = {}
        self._notes: list[str] = []
        self._step = 0
        self._speed_sent = 0.0

    def follow(self, event: Mapping[str, Any]) -> None:
        """Record one event: params, metrics, progress or note; others are left alone."""
        match event["event"]:
            case "params":
                new = {k: v for k, v in params(event["values"]).items() if k not in self._params}
                self._params |= new
                self._put(self._name, "log", params=new)
            case "metrics":
                self._step = max(self._step, event["step"])
                self._put(self._name, "log", metrics=points(event["values"], event["step"], event["time"]))
            case "progress":
                self._follow_speed(event)
            case "note":
                self._notes.append(event["message"])
                self._put(self._name, "log", tags={"mlflow.note.content": "\n\n".join(self._notes)[-_LONGEST_TAG:]})

    def _follow_speed(self, event: Mapping[str, Any]) -> None:
        speed = event["values"].get("images_per_second")
        if speed is not None and event["time"] - self._speed_sent >= _SPEED_EVERY:
            self._speed_sent = event["time"]
            self._put(self._name, "log", metrics=points({"images_per_second": speed}, event["step"], event["time"]))

    def end(self, status: str, artifacts: Mapping[str, Artifact], error: str = "") -> None:
        """Close the run.

        Args:
            status: done, failed or cancelled.
            artifacts: what was made, by output; of a stage that failed, the outputs that are whole.
        """
        for output, artifact in artifacts.items():
            self._put(
                self._name,
                "log",
                metrics=[*points(artifact.metrics, self._step, prefix=output), *numbers(artifact, output)],
                tags={f"sslflow.folder{output and '.' + output}": str(artifact.folder), **manifest_hash(artifact)},
            )
            figures = (name for name in artifact.files if name.endswith(_FIGURES) or name == "results.json")
            for verb, fields in (*(file(artifact, name, output) for name in figures), *versions(artifact, self._pipeline, self._name, output)):
                self._put(self._name, verb, **fields)
        self._judged(self._name, artifacts)
        if error:
            self._put(self._name, "log", tags={"sslflow.error": error[:_LONGEST_TAG]})
        self._put(self._name, "end", status=STATUS[status], time=now(), now=True)


def resend(workspace: Path, say: Say | None = None) -> None:
    """Send what earlier runs of the workspace could not, and close the MLflow runs of those that died. Servers that are still away are left out."""
    for path in sorted((workspace / ".sslflow/runs").glob(f"*/{SPOOL}")):
        try:
            spool = Spool(path)
        except (BlockingIOError, FileNotFoundError):
            continue  # of a run that is going on, or sent by another process just now
        try:
            check(spool.header["uri"])
            for run in reversed(list(spool.open_runs)):
                spool.add({"do": "end", "run": run, "status": "KILLED", "time": now()})
            send_all(spool, Store(**spool.header), say or _to_stderr)
        except (Unreachable, UserError, KeyError):
            spool.note_sent()
            spool.close(remove=not spool.header)
        else:
            spool.close(remove=True)


def _config(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage without `resources` that are the default: where it ran does not change what it makes."""
    return {k: v for k, v in stage.items() if k != "resources" or v != Resources().model_dump(mode="json")}


def _key_tag(output: str) -> str:
    return f"sslflow.key.{output}" if output else "sslflow.key"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)
