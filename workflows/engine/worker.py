"""Worker: the process that one stage runs in. `python -m workflows.engine.worker WORK/job.json` replays a stage by hand.

It ends with 0 when every output is sealed, with `MENDABLE` and an `error.json` for what it can say in a line, mostly what a retry
cannot mend, and with `DISK` where there is no room to write even that.
"""

import argparse
import errno
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from schemas.errors import TryAgain, UserError
from schemas.job import Job
from ssl_tasks.tracking import EVENTS, JSONLines

MENDABLE, DISK = 3, 4
ERROR = "error.json"
PARENT = "SSLFLOW_PARENT"
"""Environment variable with the process that a worker must not outlive; unset when a stage is replayed by hand."""
_GRACE = 20.0


def main(arguments: list[str] | None = None) -> int:
    """Run the stage of a job file, in this process or in several that torchrun starts."""
    parser = argparse.ArgumentParser(prog="python -m workflows.engine.worker", description="Run one stage from its job file.")
    parser.add_argument("job", type=Path)
    parser.add_argument("--processes", type=int, default=1, help="processes on this host")
    parser.add_argument("--nodes", type=int, default=1, help="hosts; needs MASTER_ADDR, MASTER_PORT and NODE_RANK")
    options = parser.parse_args(arguments)
    _end_with_parent()
    if options.processes > 1 or options.nodes > 1:
        return _start_ranks(options.job, options.processes, options.nodes)
    return _stage(options.job)


def _stage(path: Path) -> int:
    signal.signal(signal.SIGTERM, _terminate)
    work, rank = path.parent, int(os.environ.get("RANK", "0"))
    try:
        job = Job.model_validate_json(path.read_text(encoding="utf-8"))
        tracker = JSONLines(job.work / (EVENTS if rank == 0 else f"events.{rank}.jsonl"))
        from ssl_tasks.run import run
        from workflows.engine.mapped import mapper

        run(job, tracker, mapper(job, tracker.note))
        tracker.close()
    except (UserError, TryAgain) as error:
        return _mendable(work, str(error), type(error).__name__)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return DISK
        raise
    return 0


def _mendable(work: Path, message: str, kind: str) -> int:
    try:
        (work / ERROR).write_text(json.dumps({"message": message, "kind": kind}), encoding="utf-8")
    except OSError:
        return DISK
    return MENDABLE


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    """Default answer to SIGTERM; a training loop puts its own in place while it has a step to finish."""
    sys.exit(128 + number)


def _start_ranks(path: Path, processes: int, nodes: int) -> int:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    place = ["--standalone"]
    if nodes > 1:
        try:
            place = [f"--nnodes={nodes}", *(f"--{o}={os.environ[v]}" for o, v in _RENDEZVOUS.items())]
        except KeyError as missing:
            advice = f"{missing.args[0]} is not set on this host; start it under a cluster's launcher"
            return _mendable(path.parent, f"resources.nodes is {nodes}, but {advice}", UserError.__name__)
    os.environ[PARENT] = str(os.getpid())
    try:
        torchrun([*place, f"--nproc-per-node={processes}", "-m", "workflows.engine.worker", str(path)])
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        codes = {failure.exitcode for failure in error.failures.values()}
        return MENDABLE if (path.parent / ERROR).exists() else DISK if DISK in codes else 1
    return 0


_RENDEZVOUS = {"node-rank": "NODE_RANK", "master-addr": "MASTER_ADDR", "master-port": "MASTER_PORT"}


def _end_with_parent() -> None:
    """End this process if the one that started it is gone, however that ended: first politely, so that a checkpoint is written."""
    if not (stated := os.environ.pop(PARENT, "")):
        return
    parent = int(stated)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(128 + signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


if __name__ == "__main__":
    sys.exit(main())
