"""What ends a training without being its fault: a device whose memory is full, and a device that is gone.

Ranks that share each batch cannot leave a learner out in the middle of a step: one of them would wait for another for ever. The rank
whose memory is full keeps a record instead, and the next try of the stage leaves that learner out.
"""

import json
import math
import re
from pathlib import Path

import torch
from torch import distributed as dist

from schemas.errors import UserError
from schemas.training import Train

RECORD = "out_of_memory.json"
_FULL = re.compile(r"can't allocate memory|out of memory", re.IGNORECASE)
_ASKED = re.compile(r"[Tt]ried to allocate (?P<number>[\d.]+) ?(?P<unit>\w+)")
_LOST = re.compile(r"CUDA error|NCCL|cuDNN error|CUDNN_STATUS|Connection (closed|reset) by peer")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class OutOfMemory(UserError):
    """A step for which the memory did not suffice; the message says what to change."""


class DeviceLost(RuntimeError):
    """A device, or the connection to one, that failed. Trying again may mend it."""


def explained(error: Exception, config: Train, batch: int, ranks: int, step: int, saved: int, shared: bool = False) -> Exception:
    """The error in terms of the training, where a device's memory is full or a device is gone; any other error as it is.

    Args:
        batch: images a step over all `ranks`.
        step: the one that failed, from 1.
        saved: the step of the last checkpoint, 0 where there is none.
        shared: whether it failed in what all that learn together learn from, such as a teacher's forward, which only smaller batches relieve.
    """
    line = str(error).strip().partition("\n")[0]
    if ran_out(error):
        asked, total = _asked_and_total(line)
        figures = f", {asked / 2**30:.1f} GiB asked for of {total / 2**30:.1f}" if torch.cuda.is_available() else ""
        advice = _advice(config, batch, ranks, fitting(batch, ranks, asked, total), saved, shared)
        where = ", in what all learn from" if shared else ""
        return OutOfMemory(f"out of memory at step {step} with {batch} images a step{where}{figures}: {advice}")
    if isinstance(error, (torch.AcceleratorError, dist.DistError)) or (isinstance(error, RuntimeError) and _LOST.search(line)):
        return DeviceLost(f"a device, or the connection to one, failed at step {step} ({line}): run again; the training goes on from step {saved}")
    return error


def ran_out(error: Exception) -> bool:
    """Whether an error says that memory is full, the device's or the host's."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (isinstance(error, RuntimeError) and bool(_FULL.search(str(error))))


def keep(folder: Path, error: OutOfMemory, config: Train, ranks: int, rank: int) -> None:
    """Record in the folder of a learner's checkpoints what ended it on one of several ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{RECORD}.{rank}"
    partial.write_text(json.dumps({"message": str(error), "config": config.model_dump_json(), "ranks": ranks}), encoding="utf-8")
    partial.rename(folder / RECORD)


def kept(folder: Path, config: Train, ranks: int) -> OutOfMemory | None:
    """What `keep` recorded of a learner with this config on as many ranks; under others it may well fit."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return OutOfMemory(record["message"]) if (record["config"], record["ranks"]) == (config.model_dump_json(), ranks) else None


def forget(work: Path) -> None:
    """Remove what `keep` recorded of the learners of a stage, once it has been told."""
    for path in work.glob(f"checkpoints/*/{RECORD}"):
        path.unlink(missing_ok=True)


def fitting(batch: int, ranks: int, asked: float, total: float) -> int:
    """The largest batch that may fit: a multiple of `ranks`, at most half of `batch`, and 2 images a rank at least.

    Memory is taken to grow with the batch. What a step had asked for when it failed is the least that it needs, so that this is the
    most that fits.

    Args:
        asked: bytes.
        total: bytes that there are.
    """
    most = min(batch / 2, batch * total / asked)
    return max(int(most) // ranks, 2) * ranks


def _advice(config: Train, batch: int, ranks: int, smaller: int, saved: int, shared: bool) -> str:
    """What lets the training go on, and what starts it again."""
    pieces = config.accumulate * math.ceil(batch / smaller)
    keeping = [f"train.accumulate to {pieces}"] if pieces <= batch // ranks and smaller < batch else []
    if not config.activation_checkpointing:
        keeping.append("train.activation_checkpointing to true")
    if ranks > 1 and config.sharding == "ddp":
        keeping.append("train.sharding to fsdp")
    going_on = [f"set {', or '.join(keeping)}, and the training goes on from step {saved}"] if keeping and not shared else []
    starting_again = [f"set train.batch_size to {smaller} or less, which starts it again"] if smaller < batch else []
    return "; or ".join(going_on + starting_again) or "take a smaller encoder or a smaller image_size"


def _asked_and_total(line: str) -> tuple[float, float]:
    """Bytes that were held at most with those asked for last, and the device's. On a CPU nobody counts: twice what there is."""
    if not torch.cuda.is_available():
        return 2.0, 1.0
    last = _ASKED.search(line)
    wanted = float(last["number"]) * _UNITS.get(last["unit"], 1) if last else 0.0
    return torch.cuda.max_memory_allocated() + wanted, torch.cuda.get_device_properties().total_memory
