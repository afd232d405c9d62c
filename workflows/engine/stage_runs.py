"""The stages of one execution: how each is run, and what became of it. Knows nothing of Prefect, which calls it from its tasks."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from schemas.artifacts import MANIFEST, Artifact
from schemas.job import Job
from workflows.engine.launch import DISTRIBUTED, StageDied, Stop, Stopped, claim, launch, made
from workflows.engine.slots import Host, Slots, host

if TYPE_CHECKING:
    from workflows.engine.ledger import Run
    from workflows.engine.mlflow_tracker import Execution
    from workflows.engine.reuse import Plan, Planned

Listen = Callable[[str, dict[str, Any]], None]
Log = Callable[[str], None]
Limit = Callable[[Slots, int], AbstractContextManager[None]]
_SAY_EVERY = 30.0


class StageRuns:
    """State that the stages of an execution share; safe from several threads, as each writes only of its own stage.

    Attributes:
        status: of each stage that has ended: done, reused, failed, skipped or cancelled.
        errors: why the last try of a stage failed.
        stop: set to end all of them.
    """

    def __init__(self, plan: "Plan", run: "Run", experiment: "Execution", listen: Listen) -> None:
        self.plan, self.run, self.experiment, self.listen = plan, run, experiment, listen
        self.host: Host = host(plan.workspace)
        self.stop = Stop()
        self.status: dict[str, str] = {}
        self.errors: dict[str, BaseException] = {}
        self._tries: dict[str, int] = {}
        self._began = time.time()

    @property
    def wanted(self) -> list["Planned"]:
        """The stages that were asked for, in order."""
        return [p for p in self.plan.stages.values() if p.status != "skipped"]

    def reuse(self, planned: "Planned") -> str:
        """Record a stage that is made already. Returns why."""
        self.experiment.reused(planned, self.plan.artifacts(planned))
        self.status[planned.name] = "reused"
        return planned.reason

    def skip(self, planned: "Planned") -> str:
        """Record a stage that cannot run. Returns which stage is to blame."""
        cause = next(c for p in planned.parents if (c := self.cause(p)))
        why = f"{cause} {self.status[cause]}"
        self._state(planned.name, "skipped", detail=why, error=why)
        return why

    def cause(self, name: str) -> str:
        """The stage that is to blame that `name` is not made; empty if it is."""
        if self.status[name] in ("done", "reused"):
            return ""
        return next((c for p in self.plan.stages[name].parents if (c := self.cause(p))), name)

    def mendable(self, name: str) -> bool:
        """Whether another try of the stage may go better than the last."""
        return isinstance(self.errors.get(name), StageDied) and not self.stop.is_set()

    def attempt(self, planned: "Planned", limit: Limit, log: Log) -> str:
        """Try to make a stage. Returns what was done.

        Args:
            limit: holds slots of an outer limit while the stage runs.
            log: takes each line that is worth keeping.

        Raises:
            Stopped: if it was interrupted.
            StageDied: if it may be tried again.
            UserError: if that would be of no use.
        """
        name, resources = planned.name, planned.stage.resources
        number = self._tries[name] = self._tries.get(name, 0) + 1
        self.errors.pop(name, None)
        try:
            # Prefect could wait before a retry, but not be interrupted while it does.
            if number > 1 and self.stop.wait(_delay(planned, number)):
                raise Stopped
            return self._make(planned, number, limit, log)
        except Stopped:
            self._state(name, "cancelled", ended=_now())
            raise
        except Exception as error:
            self.errors[name] = error
            if self.mendable(name) and number <= resources.retries:
                again = f"try {number + 1} of {resources.retries + 1} in {_delay(planned, number + 1)} s"
                self.say(name, f"{str(error).splitlines()[0]}; {again}", log)
                self.run.stage(name, status="running", attempt=number, error=str(error))
            else:
                self._state(name, "failed", detail=str(error), error=str(error), ended=_now())
            raise

    def _make(self, planned: "Planned", number: int, limit: Limit, log: Log) -> str:
        name, stage = planned.name, planned.stage
        slots, count = self.host.slots(stage), stage.resources.devices
        job = self.plan.job(planned)
        with claim(job, lambda message: self.say(name, message, log), self.stop) as lock, ExitStack() as stack:
            left = self._left(job)
            if left is None:
                self.experiment.reused(planned, self.plan.artifacts(planned))
                self._state(name, "done", detail="made by another run meanwhile", ended=_now(), metrics=_metrics(self.plan.artifacts(planned)))
                return "made by another run meanwhile"
            busy = f"waits for a free {slots.name} slot"
            devices, locks = stack.enter_context(slots.take(count, lambda: self.say(name, busy, log), self.stop))
            stack.enter_context(limit(slots, count))
            self._state(name, "running", attempt=number, started=_now(), devices=devices, error="")
            tracked, clock = self.experiment.stage(planned, left), time.monotonic()
            try:
                artifacts = launch(
                    left,
                    devices=devices if slots.name == "gpu" else None,
                    threads=slots.threads * (1 if stage.kind in DISTRIBUTED else count),
                    timeout=stage.resources.seconds,
                    on_event=_Follower(name, self.listen, tracked.follow, log).follow,
                    on_log=log,
                    stop=self.stop,
                    held=[lock, *locks],
                    log_to=self.run.folder / "logs" / f"{name.replace('/', '_')}.txt",
                )
            except Exception as error:
                stopped = isinstance(error, Stopped)
                tracked.end("cancelled" if stopped else "failed", made(left), "" if stopped else str(error))
                raise
            tracked.end("done", artifacts)
        seconds = round(time.monotonic() - clock, 2)
        self._state(name, "done", detail=f"in {seconds:.0f} s", ended=_now(), seconds=seconds, metrics=_metrics(self.plan.artifacts(planned)))
        return f"made {', '.join(left.outputs.values())} in {seconds:.0f} s"

    def _left(self, job: Job) -> Job | None:
        """The job without the outputs that were made since this execution began; None if that is all of them."""
        ready = {o for o, a in made(job).items() if (a.folder / MANIFEST).stat().st_mtime > self._began}
        left = {o: k for o, k in job.outputs.items() if o not in ready}
        return job.model_copy(update={"outputs": left}) if left else None

    def say(self, name: str, message: str, log: Log) -> None:
        """Tell who watches, and the log."""
        self.listen(name, {"event": "note", "time": time.time(), "message": message})
        log(message)

    def _state(self, name: str, status: str, *, detail: str = "", **facts: Any) -> None:
        if status != "running":
            self.status[name] = status
        self.run.stage(name, status=status, **facts)
        self.listen(name, {"event": "state", "time": time.time(), "status": status, "detail": detail})


class _Follower:
    """Passes a stage's events on: to who watches, to the tracker, and to the log, which gets progress only now and then."""

    def __init__(self, name: str, listen: Listen, track: Callable[[dict[str, Any]], None], log: Log) -> None:
        self._name, self._listen, self._track, self._log = name, listen, track, log
        self._said = time.monotonic()

    def follow(self, event: dict[str, Any]) -> None:
        self._listen(self._name, event)
        self._track(event)
        if event["event"] == "note":
            self._log(event["message"])
        elif event["event"] == "progress" and (time.monotonic() - self._said > _SAY_EVERY or event["step"] == event["steps"]):
            self._said = time.monotonic()
            self._log(", ".join([f"step {event['step']} of {event['steps']}", *(f"{k} {v:.4g}" for k, v in event["values"].items())]))


def _delay(planned: "Planned", number: int) -> int:
    """Seconds to wait before the try with that number, from 2."""
    return int(planned.stage.resources.retry_delay * 2 ** (number - 2))


def _metrics(artifacts: dict[str, Artifact]) -> dict[str, float]:
    return {f"{output}/{name}" if output else name: value for output, a in artifacts.items() for name, value in a.metrics.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
