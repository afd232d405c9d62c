"""Energy that a stage's machine takes, where it can be read: the counters of NVIDIA's GPUs, and of the processors (RAPL, by Linux's powercap).

A counter is of a whole device, so that whatever else works there is counted too, and of this host alone. Where none can be read nothing
is stated. RAPL: https://docs.kernel.org/power/powercap/powercap.html. GPUs need the package nvidia-ml-py; their counters begin with Volta.
"""

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")
EVERY = 10.0
"""Seconds between two readings: a processor's counter may start over within half an hour."""


@dataclass(frozen=True)
class Counter:
    """A count of joules that only rises, and where it `wraps` begins again from 0."""

    read: Callable[[], float]
    wraps: float | None = None


def processors(root: Path = POWERCAP) -> list[Counter]:
    """The counters of the processors' packages; without those that may not be read, which are root's alone on many hosts."""
    found = []
    for package in sorted(root.glob("*-rapl:[0-9]*")):
        if package.name.count(":") == 1:  # parts of a package, such as its cores, are counted with it
            with suppress(OSError, ValueError):
                _microjoules(package / "energy_uj")
                found.append(Counter(partial(_microjoules, package / "energy_uj"), _microjoules(package / "max_energy_range_uj")))
    return found


def gpus() -> list[Counter]:
    """The counters of the GPUs that this process may use."""
    if not torch.cuda.is_available():
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(i).uuid}") for i in range(torch.cuda.device_count())]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # not installed, too old a device, or a driver that does not say
        return []

    def joules(handle: Any) -> float:
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000

    return [Counter(partial(joules, handle)) for handle in handles]


class Meter:
    """What is taken from now on, and what earlier tries of the same stage took.

    Args:
        path: where it is kept from try to try; what was taken since the last reading of a try that was killed is lost.
    """

    def __init__(self, path: Path, counters: Sequence[Counter] | None = None) -> None:
        self._path, self._counters = path, list([*processors(), *gpus()] if counters is None else counters)
        self._lock = threading.Lock()
        self._taken = 0.0
        if self._counters:
            with suppress(OSError, ValueError):
                self._taken = float(path.read_text())
            self._last = [counter.read() for counter in self._counters]
            threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True, name="energy").start()

    @property
    def joules(self) -> float | None:
        """None where nothing can be read."""
        if not self._counters:
            return None
        with self._lock, suppress(OSError):
            now = [counter.read() for counter in self._counters]
            for counter, before, after in zip(self._counters, self._last, now, strict=True):
                self._taken += after - before + (counter.wraps or 0.0 if after < before else 0.0)
            self._last = now
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(repr(self._taken))
        return self._taken


def _watch(meter: "weakref.ref[Meter]") -> None:
    """Read a meter now and then, as long as anybody holds it."""
    pause = threading.Event()
    while not pause.wait(EVERY) and (held := meter()):
        _ = held.joules
        del held


def _microjoules(path: Path) -> float:
    return int(path.read_text()) / 1e6
