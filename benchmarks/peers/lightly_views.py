"""Views by lightly 1.6.0, in an environment of its own: one epoch of its loader for each line on standard input, its seconds on standard output.

python lightly_views.py FOLDER CASE BATCH WORKERS
"""

import sys
import time

import torch
from lightly.data import LightlyDataset
from lightly.transforms import DINOTransform, SimCLRTransform

TRANSFORMS = {
    "simclr 32": lambda: SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0),
    "dino 2x32 + 6x16": lambda: DINOTransform(global_crop_size=32, local_crop_size=16, n_local_views=6),
    "simclr 224": lambda: SimCLRTransform(input_size=224),
}


def main() -> None:
    folder, case, batch, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    dataset = LightlyDataset(folder, transform=TRANSFORMS[case]())
    loader = torch.utils.data.DataLoader(dataset, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True)
    for _ in sys.stdin:
        began, seen = time.perf_counter(), 0
        for views, *_ in loader:
            seen += len(views[0])
        print(seen / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
