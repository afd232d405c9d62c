"""Flow: a plan executed by Prefect, a task a stage. Prefect orders, retries, limits and shows; processes do the work.

What Prefect 3.8 would do otherwise, and what is done about it here: its timeouts do not stop a task (ours kill the process),
its flows succeed though a task failed (the verdict is derived from the outcomes), what a failed task blocks stays pending for
ever (it ends as Skipped), and an own server loses its history at exit (it is drained first).
"""

import logging
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError
from schemas.stages import Stage
from workflows.engine import result_page, servers
from workflows.engine.launch import Stopped
from workflows.engine.slots import Slots, host
from workflows.engine.stage_runs import Listen, StageRuns

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State
    from prefect.futures import PrefectFuture

    from workflows.engine.ledger import Run
    from workflows.engine.mlflow_tracker import Execution
    from workflows.engine.reuse import Plan, Planned


def check(plan: "Plan") -> None:
    """See before any work that the plan can be executed here.

    Raises:
        UserError: if the Prefect server does not answer, or a stage wants another work pool, or more devices than there are.
    """
    check_server(plan.workspace)
    here, pool = host(plan.workspace), _pool()
    for planned in plan.todo:
        check_pool(planned.name, planned.stage, pool)
        here.check(planned.name, planned.stage)


def check_pool(name: str, stage: Stage, pool: str) -> None:
    """Raises UserError if a stage is to run in another work pool than the flow does: all stages of a run share its host."""
    if (wanted := stage.resources.pool) not in (servers.POOL, pool):
        where = f"the work pool '{pool}'" if pool else "this host"
        raise UserError(
            f"stages.{name}.resources.pool: '{wanted}' asked for, but this run is on {where}; deploy it with --pool {wanted}, or say '{servers.POOL}'"
        )


def _pool() -> str:
    """The work pool that this process runs a flow for; empty if it is started by hand."""
    if "prefect.context" not in sys.modules:
        return ""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return (context.flow_run.work_pool_name if context and context.flow_run else "") or ""


def check_server(_workspace: Path) -> None:
    """Raises UserError if a Prefect server is named that does not answer."""
    if url := servers.address():
        servers.check(url)


def execute(plan: "Plan", run: "Run", experiment: "Execution", listen: Listen) -> bool:
    """Make what is missing of a plan. Inside a deployed flow its run is used, else one is made.

    Returns:
        Whether every stage that was asked for is made.

    Raises:
        UserError: before any work, if the plan cannot be executed here.
        KeyboardInterrupt: after everything has stopped in order, if it was interrupted.
    """
    check(plan)
    with servers.api(plan.workspace):
        stages = StageRuns(plan, run, experiment, listen)
        _Flow(stages).run()
    if stages.stop.is_set():
        raise KeyboardInterrupt
    return all(s in ("done", "reused") for s in stages.status.values())


class _Flow:
    """The Prefect side of one execution."""

    def __init__(self, stages: StageRuns) -> None:
        self.stages, self.plan = stages, stages.plan
        self.lost = False

    def run(self) -> None:
        from prefect.context import FlowRunContext

        for slots in filter(None, (self.stages.host.cpu, self.stages.host.gpu)):
            servers.ensure_limit(slots)
        if FlowRunContext.get():
            self._body()
            return
        from prefect import Flow
        from prefect.client.orchestration import get_client
        from prefect.task_runners import ThreadPoolTaskRunner

        def pipeline(run: str, workspace: str) -> "State[Any]":  # noqa: ARG001 (what the UI shows as the run's parameters)
            return self._body()

        runner: Any = ThreadPoolTaskRunner(max_workers=len(self.plan.stages))
        name, description = self.plan.pipeline.name, self.plan.pipeline.description
        flow = Flow(pipeline, name=name, description=description, flow_run_name=self.stages.run.id, task_runner=runner, persist_result=False)
        logging.raiseExceptions = False  # a log line that does not reach the server is no news for the terminal
        try:
            state = flow(run=self.stages.run.id, workspace=str(self.plan.workspace), return_state=True)
        except Exception:
            if len(self.stages.status) < len(self.stages.wanted):
                raise
            if not self.lost:
                self._note_loss()
            return
        if flow_run := state.state_details.flow_run_id:
            with suppress(Exception), get_client(sync_client=True) as client:
                servers.drain(client, flow_run, len(self.stages.wanted))

    def _note_loss(self) -> None:
        what = f"Prefect's server was lost; stages go on without it, the record in {self.stages.run.folder} is whole"
        self.stages.say(self.stages.wanted[-1].name, what, _ignore)

    def _body(self) -> "State[Any]":
        """Submit each stage as soon as what it takes from has ended, and judge how all of it went."""
        waiting = {p.name: p for p in self.stages.wanted}
        futures: dict[str, PrefectFuture[Any]] = {}
        ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        over: set[str] = set()

        def tell(name: str) -> Callable[[Any], None]:
            return lambda _: ended.put(name)

        self._note_address()
        try:
            with self._signals():
                while len(over) < len(self.stages.wanted):
                    for planned in [p for p in waiting.values() if over.issuperset(p.parents)]:
                        del waiting[planned.name]
                        futures[planned.name] = self._submit(planned, futures)
                        futures[planned.name].add_done_callback(tell(planned.name))
                    over.add(name := _next(ended))
                    if name not in self.stages.status:
                        self._alone(name)
        except BaseException:
            self.stages.stop.set()
            while len(over) < len(futures):
                over.add(_next(ended))
            raise
        if not self.lost:
            self._publish()
        return self._verdict()

    def _alone(self, name: str) -> None:
        """Do without Prefect what its task did not get to, as it does when its server is gone."""
        if not self.lost:
            self._note_loss()
        self.lost = True
        planned = self.plan.stages[name]
        while name not in self.stages.status:
            with suppress(Exception):
                self.stages.attempt(planned, lambda _slots, _count: nullcontext(), _ignore)

    def _submit(self, planned: "Planned", futures: "dict[str, PrefectFuture[Any]]") -> "PrefectFuture[Any]":
        from prefect.states import Cancelled, Completed

        stages = self.stages
        if planned.status == "reused":
            return _task(planned, f"{planned.name} (reused)", lambda: Completed(name="Reused", message=stages.reuse(planned))).submit()
        if any(stages.cause(p) for p in planned.parents):
            return _task(planned, f"{planned.name} (skipped)", lambda: Cancelled(name="Skipped", message=f"skipped: {stages.skip(planned)}")).submit()

        def limit(slots: Slots, count: int) -> AbstractContextManager[None]:
            return servers.hold_limit(slots, count, lambda message: stages.say(planned.name, message, _log), stages.stop)

        def work() -> "State[Any]":
            try:
                return Completed(message=stages.attempt(planned, limit, _log))
            except Stopped:
                return Cancelled(message="interrupted; the next run goes on from the last checkpoint")

        task = _task(planned, planned.name, work, lambda: stages.mendable(planned.name))
        future: PrefectFuture[Any] = task.submit(return_state=False, wait_for=[futures[p] for p in planned.parents])
        return future

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM, with which a worker cancels, ask every stage to end; a second one kills them."""
        stop = self.stages.stop

        def end(_number: int, _frame: Any) -> None:
            stop.grace = 0.0 if stop.is_set() else stop.grace
            stop.set()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _verdict(self) -> "State[Any]":
        from prefect.states import Cancelled, Completed, Failed

        status = self.stages.status
        if self.stages.stop.is_set():
            return Cancelled(message="interrupted")
        if failed := [n for n, s in status.items() if s == "failed"]:
            skipped = [n for n, s in status.items() if s == "skipped"]
            first = str(self.stages.errors[failed[0]]).splitlines()[0]
            return Failed(message=f"{', '.join(failed)} failed: {first}" + (f"; skipped: {', '.join(skipped)}" if skipped else ""))
        return Completed(message=", ".join(f"{sum(s == word for s in status.values())} {word}" for word in ("done", "reused")))

    def _note_address(self) -> None:
        from prefect.context import FlowRunContext
        from prefect.settings import PREFECT_UI_URL

        context = FlowRunContext.get()
        if context and context.flow_run:
            shown = f"{PREFECT_UI_URL.value()}/runs/flow-run/{context.flow_run.id}" if PREFECT_UI_URL.value() else ""
            self.stages.run.note(prefect=shown, flow_run=str(context.flow_run.id))
            self.stages.experiment.tag("prefect.flow_run", shown or str(context.flow_run.id))

    def _publish(self) -> None:
        """The artifacts of the flow run: what was made from what, with which result, and where to see more."""
        from prefect.artifacts import create_markdown_artifact, create_table_artifact

        key, status = self.plan.pipeline.name.replace("_", "-"), self.stages.status
        try:
            create_markdown_artifact(result_page.page(self.plan, status, self.stages.experiment.url), key=f"{key}-result", description="Lineage and results")
            create_table_artifact(result_page.rows(self.plan, status, self.stages.run.record), key=f"{key}-stages", description="What became of each stage")
        except Exception as error:
            self.stages.say(self.stages.wanted[-1].name, f"Prefect took no result page ({type(error).__name__})", _log)


def _next(ended: "queue.SimpleQueue[str]") -> str:
    """The stage that ended next. Waits in short turns: a signal that comes just before a wait is only acted on after it."""
    while True:
        with suppress(queue.Empty):
            return ended.get(timeout=0.2)


def _task(planned: "Planned", title: str, work: "Callable[[], State[Any]]", mendable: Callable[[], bool] = lambda: False) -> "Task[[], Any]":
    """A task that does `work`, tried again as often as the stage's resources say while its error is mendable."""
    from prefect import Task
    from prefect.cache_policies import NO_CACHE

    def stage() -> "State[Any]":
        return work()

    return Task(
        stage,
        name=planned.stage.kind,
        task_run_name=lambda: title,
        tags=[planned.stage.kind, f"pool:{planned.stage.resources.pool}"],
        retries=planned.stage.resources.retries,
        retry_delay_seconds=0,
        retry_condition_fn=lambda _task, _run, _state: mendable(),
        cache_policy=NO_CACHE,
        persist_result=False,
    )


def _log(message: str) -> None:
    from prefect.logging import get_run_logger

    get_run_logger().info(message)


def _ignore(_message: str) -> None:
    pass
