"""The plan: which stages are made already, which will run, and why. Reads files only: no Prefect, MLflow, DVC or torch."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from schemas.annotations import places
from schemas.artifacts import Artifact, damaged, read
from schemas.errors import UserError
from schemas.job import ARTIFACTS, Job
from schemas.pipeline import Pipeline
from schemas.references import references
from schemas.stages import Curate, Distill, Evaluate, Pretrain, Stage, embedding_files, for_output, output_config, student_files

Status = Literal["reused", "run", "waits", "skipped"]


@dataclass(frozen=True)
class Planned:
    """What is to happen to one stage.

    Attributes:
        key: of the stage as a whole; `outputs` maps each output to a key of its own.
        inputs: each reference, as written, to the key of the artifact that it stands for.
        missing: outputs that are to be made.
        status: `run` now, `waits` on a stage that will run, `reused`, or `skipped` as it was not asked for.
        reason: one line that says why.
        stamp: of what it reads besides artifacts; see `make_plan`.
    """

    name: str
    stage: Stage
    key: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    missing: tuple[str, ...]
    status: Status
    reason: str
    parents: tuple[str, ...]
    stamp: str = ""


@dataclass(frozen=True)
class Plan:
    """The stages of a pipeline in the order in which they can run."""

    pipeline: Pipeline
    workspace: Path
    stages: dict[str, Planned]
    data_versions: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def todo(self) -> list[Planned]:
        """The stages that will run."""
        return [s for s in self.stages.values() if s.status in ("run", "waits")]

    def job(self, planned: Planned) -> Job:
        """The stage made concrete, for the process that runs it."""
        return Job(
            name=planned.name,
            pipeline=self.pipeline.name,
            stage=planned.stage,
            key=planned.key,
            inputs=planned.inputs,
            outputs={o: k for o, k in planned.outputs.items() if o in planned.missing},
            workspace=self.workspace,
            data_version=self.data_versions.get(planned.name, ""),
            stamp=planned.stamp,
            environment=self.environment,
        )

    def artifacts(self, planned: Planned) -> dict[str, Artifact]:
        """The artifacts of a stage that are made, by output."""
        return {o: a for o, k in planned.outputs.items() if (a := made(self.workspace, k))}


def make_plan(
    pipeline: Pipeline,
    workspace: Path,
    stamps: Mapping[str, str],
    *,
    previous: Mapping[str, Mapping[str, str]] | None = None,
    start: str = "",
    until: str = "",
    force: Collection[str] = (),
    data_version: str = "",
    environment: Mapping[str, str] | None = None,
) -> Plan:
    """Decide for each stage whether it is reused or runs.

    Args:
        stamps: of each ingest stage, what stands for the bytes of its source (a DVC hash or a fingerprint); of a stage that starts
            from a file of weights or embeds by some, their sha256; of several students' files one after the other, with + between them;
            likewise of an evaluation by annotations.
        previous: of each stage, the keys of its outputs when it was last run; what a reason compares with.
        start: this stage and all that depend on it run again; what it takes from must be made.
        until: this stage is the last; only it and what it needs are run.
        force: these stages run again, and so do all that depend on them.

    Raises:
        UserError: if a named stage does not exist, or `start` takes from a stage that is not made.
    """
    for name in (start, until, *force):
        if name and name not in pipeline.stages:
            raise UserError(f"no stage '{name}' in pipeline '{pipeline.name}'; stages: {', '.join(pipeline.stages)}")
    again = set(force) | ({start} if start else set())
    wanted = _ancestors(pipeline, until) if until else set(pipeline.stages)
    planned: dict[str, Planned] = {}
    versions: dict[str, str] = {}
    for name in pipeline.order():
        stage = pipeline.stages[name]
        parents = tuple(pipeline.parents(name))
        refs = list(references(stage))
        inputs = {r.text: planned[r.stage].outputs[r.output] for r in refs}
        stamp = stamps.get(name, "")
        outputs = {o: _key(stage, o, inputs, _stamp_of(stage, o, stamp)) for o in stage.outputs}
        missing = tuple(o for o, k in outputs.items() if name in again or not made(workspace, k))
        status: Status
        waiting_on = [p for p in parents if planned[p].status in ("run", "waits")]
        if name not in wanted:
            status, reason, missing = "skipped", f"comes after {until}", ()
        elif any(p in again for p in waiting_on):
            again.add(name)
            status, reason, missing = "waits", f"{', '.join(waiting_on)} will be made again", tuple(outputs)
        elif not missing:
            status, reason = "reused", "made already: same config, same inputs"
        else:
            status = "waits" if waiting_on else "run"
            why = "asked for" if name in again else ""
            reason = why or _reason(workspace, stage, outputs, missing, inputs, (previous or {}).get(name, {}))
        whole = outputs[""] if "" in outputs else _digest(sorted(outputs.values()))
        planned[name] = Planned(name, stage, whole, inputs, outputs, missing, status, reason, parents, stamp)
        versions[name] = data_version if stage.kind == "ingest" and stamp and stamp == data_version else _inherited(versions, parents)
    if start:
        _check_upstream(pipeline, planned, start)
    return Plan(pipeline, workspace, planned, versions, dict(environment or {}))


def made(workspace: Path, key: str) -> Artifact | None:
    """The artifact with `key`, if it was completed and none of its files is missing or cut short."""
    try:
        artifact = read(workspace / ARTIFACTS / key)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return None if damaged(artifact) else artifact


def _ancestors(pipeline: Pipeline, name: str) -> set[str]:
    return {name}.union(*(_ancestors(pipeline, p) for p in pipeline.parents(name)))


def _check_upstream(pipeline: Pipeline, planned: Mapping[str, Planned], start: str) -> None:
    upstream = _ancestors(pipeline, start) - {start}
    if unmade := [n for n in planned if n in upstream and planned[n].status != "reused"]:
        raise UserError(f"cannot start from '{start}': {', '.join(unmade)} would have to run first ({planned[unmade[0]].reason}); run without --from")


def _key(stage: Stage, output: str, inputs: Mapping[str, str], stamp: str) -> str:
    """Hash of the normalised config, the keys of the inputs, and the version of the stage's code.

    A reference counts by the key that it stands for, so that renaming a stage makes nothing anew; only a report shows names.
    """
    config = output_config(stage, output)
    concerned = list(references(for_output(stage, output)))
    if not isinstance(stage, Evaluate):
        for reference in concerned:
            _put(config, reference.loc, inputs[reference.text])
    taken = sorted({reference.text: inputs[reference.text] for reference in concerned}.values())
    return _digest({"config": config, "inputs": taken, "names": _names(stage, inputs), "stamp": stamp, "contract": stage.contract})


def _stamp_of(stage: Stage, output: str, stamp: str) -> str:
    """What of a stage's stamp concerns one of its outputs: of a distillation, only the file that this output's student starts from."""
    if not isinstance(stage, Distill):
        return stamp
    stamps = zip(student_files(stage), stamp.split("+"), strict=False)
    return next((own for name, own in stamps if stage.students[name] is stage.trained(output)), "")


def _names(stage: Stage, inputs: Mapping[str, str]) -> dict[str, str]:
    return dict(inputs) if isinstance(stage, Evaluate) else {}


def _put(config: Any, loc: tuple[str | int, ...], value: str) -> None:
    for part in loc[:-1]:
        config = config[part]
    config[loc[-1]] = value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]


def _inherited(versions: Mapping[str, str], parents: tuple[str, ...]) -> str:
    return "+".join(dict.fromkeys(v for p in parents if (v := versions[p])))


def _reason(workspace: Path, stage: Stage, outputs: Mapping[str, str], missing: tuple[str, ...], inputs: Mapping[str, str], before: Mapping[str, str]) -> str:
    """Why a stage has to run: what differs from the last time that it did."""
    if lost := [f"{o + ': ' if o else ''}{', '.join(f)}" for o in missing if (f := _damage(workspace, outputs[o]))]:
        return f"damaged: {'; '.join(lost)} missing or cut short"
    if not before:
        return "not made yet"
    reasons = []
    for output in missing:
        if output not in before:
            reasons.append(f"{output} is new")
        elif before[output] == outputs[output]:
            reasons.append("did not finish last time")
        elif old := made(workspace, before[output]):
            reasons += _differences(old, stage, output, inputs)
        else:
            reasons.append("what was made before is gone")
    return "; ".join(dict.fromkeys(reasons)) or _unseen(stage)


def _unseen(stage: Stage) -> str:
    """What can have changed where neither config nor inputs did."""
    if isinstance(stage, Pretrain) and stage.init_from and stage.init_from.file:
        return f"{stage.init_from.file} or its code changed"
    if isinstance(stage, Distill) and (starts := student_files(stage)):
        return f"{', '.join(dict.fromkeys(starts.values()))} or its code changed"
    if isinstance(stage, Curate) and (files := embedding_files(stage)):
        return f"{', '.join(dict.fromkeys(file for _, file in files))} or its code changed"
    if isinstance(stage, Evaluate) and (read := dict.fromkeys(path for _, _, path in places(stage.protocols))):
        return f"{', '.join(read)} or its code changed"
    return "the source's files changed" if stage.kind == "ingest" else "its code changed"


def _damage(workspace: Path, key: str) -> list[str]:
    try:
        return damaged(read(workspace / ARTIFACTS / key))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except ValueError:
        return ["artifact.json"]


def _differences(old: Artifact, stage: Stage, output: str, inputs: Mapping[str, str]) -> Iterator[str]:
    was, now = dict(flatten(old.config)), dict(flatten(output_config(stage, output)))
    for path in dict.fromkeys((*was, *now)):
        if was.get(path) != now.get(path):
            yield f"{path} {was.get(path, 'unset')} -> {now.get(path, 'unset')}"
    for text, key in inputs.items():
        if old.parents.get(text, key) != key:
            yield f"input {text} changed"


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings and lists with their dotted paths."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flatten(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for i, item in enumerate(value):
            yield from flatten(item, f"{path}.{i}")
    else:
        yield path, value
