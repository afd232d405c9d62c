"""What the benchmarks share: images of a folder in memory, small encoders, and the machine."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from schemas.encoders import Encoder
from ssl_tasks.data.folder import listing

CONVNET = Encoder(name="resnetv2_18", image_size=32, stem="half", options={"layers": [1, 1, 1], "channels": [32, 64, 128], "stem_chs": 32})
VIT = Encoder(name="vit_tiny_patch16_224", image_size=32, patch_size=4, width=96, depth=4, heads=3)


def decoded(folder: Path, count: int, side: int = 32, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` random images of a folder of class folders, uint8 (N, 3, side, side), and their classes."""
    found = listing(folder, labels=True)
    names = sorted({f.label or "" for f in found})
    rows = np.random.default_rng(seed).permutation(len(found))[:count]
    images = [np.asarray(Image.open(found[row].path).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)) for row in rows]
    return np.stack(images).transpose(0, 3, 1, 2).copy(), np.array([names.index(found[row].label or "") for row in rows])


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
    }


def finish(result: dict[str, Any], out: Path | None) -> None:
    """Print a result as JSON, and write it where told to."""
    text = json.dumps(result, indent=1)
    print(text)
    if out:
        out.write_text(text + "\n")
