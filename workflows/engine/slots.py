"""Slots: which of this host's GPUs, or shares of its CPU, a stage holds. Locks on files: the kernel frees what a killed run held."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from schemas.errors import UserError
from schemas.stages import Stage
from workflows.engine.launch import Stop, Stopped, try_lock, wait_for_lock

_CPU_SLOTS = 4
_POLL = 0.2


@dataclass(frozen=True)
class Slots:
    """What a host can run side by side.

    Attributes:
        name: `gpu` or `cpu`.
        devices: one a slot: a GPU as CUDA_VISIBLE_DEVICES names it, or a number.
        threads: CPU threads that go with a slot.
        folder: of the lock files; runs that share it never hold the same slot.
    """

    name: str
    devices: tuple[str, ...]
    threads: int
    folder: Path

    @contextmanager
    def take(self, count: int, on_wait: Callable[[], None], stop: Stop) -> Iterator[tuple[list[str], list[int]]]:
        """Hold `count` slots, no more than there are; wait for them, first come first served.

        Yields the devices, and the file descriptors of their locks.

        Raises:
            launch.Stopped: if `stop` was set while waiting.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            held: dict[str, BinaryIO] = {}
            # One collects at a time: two that each hold half of what both need would wait for ever.
            with _open(self.folder / f"{self.name}-queue.lock") as queue:
                wait_for_lock(queue, on_wait, stop)
                files = {d: stack.enter_context(_open(self.folder / f"{self.name}-{d}.lock")) for d in self.devices}
                told = False
                while len(held) < count:
                    free = next((d for d, file in files.items() if d not in held and try_lock(file)), None)
                    if free is not None:
                        held[free] = files[free]
                        continue
                    if not told:
                        on_wait()
                        told = True
                    if stop.wait(_POLL):
                        raise Stopped("stopped while waiting for a slot")
            yield list(held), [file.fileno() for file in held.values()]


def _open(path: Path) -> BinaryIO:
    """A file to lock. Opened for reading where it exists, as it may be another user's."""
    return os.fdopen(os.open(path, os.O_RDONLY if path.exists() else os.O_RDONLY | os.O_CREAT, 0o644), "rb")


@dataclass(frozen=True)
class Host:
    """The slots of this host."""

    cpu: Slots
    gpu: Slots | None

    def slots(self, stage: Stage) -> Slots:
        """Where a stage runs: on GPUs where there are any, but listing images needs none."""
        return self.gpu if self.gpu and stage.kind != "ingest" else self.cpu

    def check(self, name: str, stage: Stage) -> None:
        """Raises UserError if the stage asks for more than there is."""
        slots, asked = self.slots(stage), stage.resources.devices
        if asked > len(slots.devices):
            there = f"{len(slots.devices)} {'GPUs' if slots.name == 'gpu' else 'CPU slots'}"
            raise UserError(f"stages.{name}.resources.devices: {asked} asked for, this host has {there}; lower it or run on a larger host")


def host(workspace: Path) -> Host:
    """The slots of this host. GPUs are shared out among all runs on it, CPU slots among those of the workspace."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = min(cores, _CPU_SLOTS)
    cpu = Slots("cpu", tuple(map(str, range(shares))), max(1, cores // shares), workspace / ".sslflow" / "slots")
    if not (found := gpus()):
        return Host(cpu, None)
    common = Path(tempfile.gettempdir()) / "sslflow-slots"
    common.mkdir(exist_ok=True)
    if common.stat().st_uid == os.getuid():
        common.chmod(0o1777)
    return Host(cpu, Slots("gpu", tuple(found), max(1, cores // len(found)), common))


def gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves visible, by their unique names; numbers in it count in PCI order."""
    if not shutil.which("nvidia-smi"):
        return []
    done = subprocess.run(["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    present = done.stdout.split() if done.returncode == 0 else []
    return visible(present, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(present: list[str], allowed: str | None) -> list[str]:
    """Those of the GPUs `present` that a value of CUDA_VISIBLE_DEVICES names, in its order; as CUDA does, up to the first wrong name."""
    if allowed is None:
        return present
    chosen: list[str] = []
    for name in filter(None, map(str.strip, allowed.split(","))):
        if name.isdigit() and int(name) < len(present):
            chosen.append(present[int(name)])
        elif name.startswith("MIG-") or name in present:
            chosen.append(name)
        else:
            break
    return chosen
