"""What a model takes to run: counted where that can be counted, timed on the machine at hand where it cannot.

FLOPs are those of one image through convolutions, matrix products and attention, as `torch.utils.flop_counter` counts them: a
multiply and an add are two. Many papers count the pair once. Norms, activations and additions are left out, as everywhere.
"""

import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

WARM_UP, SECONDS = 3, 10.0
"""Passes before the first that is timed; how long one measurement goes on at most, once it has three passes."""


@dataclass(frozen=True)
class Speed:
    """Of one device.

    Attributes:
        latency: milliseconds for one image, median.
        throughput: images a second in large batches.
        passes: how many were timed for the latency.
    """

    latency: float
    throughput: float
    passes: int


def flops(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """FLOPs of one image (C, H, W) through the model, in the mode that it is in."""
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(torch.zeros(1, *shape, device=next(model.parameters()).device))
    return int(counter.get_total_flops())


def speed(model: nn.Module, shape: tuple[int, int, int], device: str, batch: int, repeats: int) -> Speed:
    """Latency of one image (C, H, W) and throughput of `batch` of them on a device, in float32 and eval mode; the model stays on the device."""
    model.to(device).eval()
    one, many = (list(_timed(model, torch.randn(n, *shape, device=device), repeats)) for n in (1, batch))
    return Speed(statistics.median(one) * 1000, batch / statistics.median(many), len(one))


@torch.inference_mode()
def _timed(model: nn.Module, images: torch.Tensor, repeats: int) -> Iterator[float]:
    """Seconds of each pass after the warm-up; copies to and from the device are not in them."""
    begun = time.perf_counter()
    for i in range(WARM_UP + repeats):
        _wait(images.device)
        start = time.perf_counter()
        model(images)
        _wait(images.device)
        end = time.perf_counter()
        if i >= WARM_UP:
            yield end - start
        if end - begun > SECONDS and i >= WARM_UP + 2:
            return


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def devices() -> dict[str, str]:
    """What this machine can run a model on, and its name for a reader: the CPU, and a GPU where there is one."""
    threads = torch.get_num_threads()
    found = {"cpu": f"{_processor()}, {threads} thread{'s' * (threads > 1)}"}
    return found | ({"cuda": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
