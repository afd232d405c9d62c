"""Mapped: a curation's shards as tasks of a Prefect flow, run by the stage's own process: on threads, or on a Dask cluster.

Few images, and those of a host whose Prefect server is gone, are made on threads without it: an engine would take longer than
the work, and nothing but its pages is lost.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from uuid import UUID

from schemas.errors import UserError
from schemas.job import Job
from schemas.stages import Curate

if TYPE_CHECKING:
    from ssl_tasks.curate.shards import Mapper, Shard

SMALL = 4096
"""Images below which an engine takes longer than the work."""
_ANSWER, _WORKERS, _DRAIN = 10, 30, 10.0
"""Seconds: for a scheduler to answer, for a first worker of it, and for Prefect's server to be told the last of it."""


Run = Generator[None, None, None]


def mapper(job: Job, note: Callable[[str], None]) -> "Mapper":
    """What runs a curation's shards.

    Args:
        note: told in a line where the work goes otherwise than asked for.

    Raises:
        UserError: where Dask is asked for and not installed.
    """
    runner = job.stage.resources.runner if isinstance(job.stage, Curate) else "threads"
    if runner == "dask" and not (find_spec("prefect_dask") and find_spec("distributed")):
        raise UserError(f"stages.{job.name}.resources.runner: dask is not installed: pip install 'sslflow[dask]', or take threads")

    def run(shards: "Sequence[Shard]") -> Run:
        from ssl_tasks.curate.shards import threads

        if len(shards) == 1 or sum(shard.count for shard in shards) < SMALL:
            yield from threads(shards)
        elif lost := _no_server():
            note(f"{lost}: {len(shards)} shards are made on threads of this process")
            yield from threads(shards)
        else:
            yield from _mapped(job, shards, note)

    return run


def _no_server() -> str:
    """Why Prefect cannot be used; empty where it can."""
    if not (url := os.environ.get("PREFECT_API_URL")):
        return "no Prefect server is named by PREFECT_API_URL"
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return f"no Prefect server answers at {url}" if client.api_healthcheck() else ""


def _mapped(job: Job, shards: "Sequence[Shard]", note: Callable[[str], None]) -> Run:
    from prefect import Flow, Task
    from prefect.cache_policies import NO_CACHE
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext
    from prefect.events.worker import EventsWorker
    from prefect.futures import as_completed
    from prefect.states import Cancelled

    from ssl_tasks.curate.shards import threads

    logging.raiseExceptions = False  # a log line that does not reach the server is no news here
    left, failed = list(shards), list[BaseException]()
    what = type(shards[0].work).__name__.lower()
    task: Any = Task(make, name=what, task_run_name=what + " {number}", cache_policy=NO_CACHE, persist_result=False)

    terminate, started = signal.getsignal(signal.SIGTERM), list[UUID]()

    def body() -> Run:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)  # Prefect has put its own in place, which ends in a traceback
        context = FlowRunContext.get()
        started.extend([context.flow_run.id] if context and context.flow_run else [])
        futures = {task.submit(shard, number): shard for number, shard in enumerate(shards, 1)}
        for future in as_completed(list(futures)):
            try:
                future.result()
            except Exception as error:
                failed.append(error)
                raise
            left.remove(futures[future])
            yield

    count = sum(shard.count for shard in shards)
    flow: Any = Flow(body, name=f"{job.pipeline}.{job.name}", flow_run_name=f"{what} {count:,} images", task_runner=_runner(job), persist_result=False)
    try:
        yield from flow()
    except Exception as error:
        if failed:
            raise failed[0] from None
        note(f"Prefect failed ({type(error).__name__}), nothing is lost: {len(left)} of {len(shards)} shards are left to threads of this process")
        yield from threads(left)
    except GeneratorExit:  # Prefect takes it for success
        with suppress(Exception), get_client(sync_client=True) as client:
            client.set_flow_run_state(started[0], Cancelled(message="interrupted; finished shards are kept"), force=True)
        raise
    finally:
        EventsWorker.drain_all(timeout=_DRAIN)


def make(shard: "Shard", number: int) -> None:  # noqa: ARG001 (part of the task's name)
    """Make one shard, wherever this is called."""
    if not shard.files.exists():
        raise UserError(f"{os.uname().nodename} does not see {shard.files.parent}: every Dask worker needs the workspace at the same path")
    shard()


def _runner(job: Job) -> Any:
    """Prefect's task runner.

    Raises:
        UserError: where the scheduler that is named does not answer, or has no worker.
    """
    cores, resources = len(os.sched_getaffinity(0)), job.stage.resources
    if resources.runner == "threads":
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner(max_workers=cores)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    from prefect_dask.task_runners import DaskTaskRunner

    if resources.scheduler is None:
        return DaskTaskRunner(address=_cluster(cores).scheduler_address)
    _check(job.name, resources.scheduler)
    return DaskTaskRunner(address=resources.scheduler)


@cache
def _cluster(workers: int) -> Any:
    """A Dask cluster of processes on this host, for as long as this process lives: several steps of a curation use it."""
    from distributed import LocalCluster

    start: Any = LocalCluster
    return start(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL)


def _check(stage: str, scheduler: str) -> None:
    from distributed import Client

    connect: Any = Client
    key = f"stages.{stage}.resources.scheduler"
    try:
        with connect(scheduler, timeout=_ANSWER, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=_WORKERS)
    except TimeoutError:
        raise UserError(f"{key}: {scheduler} has no worker; start some with `dask worker {scheduler} --nthreads 1`") from None
    except OSError:
        raise UserError(
            f"{key}: no Dask scheduler answers at {scheduler}; start one with `dask scheduler`, or leave it out for a cluster on this host"
        ) from None
