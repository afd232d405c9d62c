"""Two views an image, images a second: ours for a whole batch at once, against torchvision's transforms image by image.

    python benchmarks/views.py [--size 32] [--images 4096] [--workers 2]

Both make the same two views: random resized crop (antialiased), flip, colour jitter, grey, normalise. torchvision gets as many
loader workers as there are cores; both start from decoded uint8 images. Prints, and with --out writes, JSON with machine and versions.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from schemas.views import Views
from ssl_tasks.data.draw import Draw
from ssl_tasks.data.views import MEAN_STD, augment

BATCH = 256


class PerImage(Dataset[list[torch.Tensor]]):
    """Two views of each image by torchvision, on PIL images as its recipes have them."""

    def __init__(self, images: np.ndarray, size: int) -> None:
        self.images = images
        mean, std = MEAN_STD[3]
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, (0.08, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
                v2.RandomGrayscale(0.2),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        image = Image.fromarray(self.images[index].transpose(1, 2, 0))
        return [self.transform(image), self.transform(image)]


def rate(run: Callable[[], None], images: int) -> float:
    """Images a second of `run`, after one warm-up; the best of three."""
    run()
    took = []
    for _ in range(3):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return images / min(took)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (options.images, 3, options.size, options.size), np.uint8)
    generator = torch.Generator().manual_seed(0)
    config = Views(blur=0.0)

    def ours() -> None:
        for start in range(0, len(images), BATCH):
            augment(config, torch.from_numpy(images[start : start + BATCH]), options.size, Draw(generator, BATCH))

    loader = DataLoader(PerImage(images, options.size), BATCH, num_workers=options.workers, persistent_workers=options.workers > 0)

    def theirs() -> None:
        for _ in loader:
            pass

    batched, per_image = rate(ours, len(images)), rate(theirs, len(images))
    result = {
        "images_per_second": {"ours, batched": round(batched), "torchvision, per image": round(per_image)},
        "ratio": round(batched / per_image, 1),
        "views": 2,
        "size": options.size,
        "workers": options.workers,
        "threads": torch.get_num_threads(),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(terse=True)},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
