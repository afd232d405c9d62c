"""scikit-learn's handwritten digits as image files that are the same, byte for byte, on every machine.

1,797 grey images of 8x8, from the test part of the UCI set: https://archive.ics.uci.edu/dataset/80
"""

import hashlib
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from ssl_tasks.data import drafts

TEST = 500


def files() -> dict[str, bytes]:
    """Content of each file by its path: `train/LABEL/NNNN.bmp` or `test/...`, NNNN the image's place in scikit-learn's set.

    The set's own order groups writers, so the test split is chosen by hash: the 500 images whose index has the lowest SHA-256.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images.astype(int) * 255 + 8) // 16
    by_hash = sorted(range(len(pixels)), key=lambda i: hashlib.sha256(str(i).encode()).digest())
    test = set(by_hash[:TEST])
    return {f"{'test' if i in test else 'train'}/{digits.target[i]}/{i:04d}.bmp": bmp(image.astype(np.uint8)) for i, image in enumerate(pixels)}


def bmp(grey: NDArray[np.uint8]) -> bytes:
    """An 8-bit BMP file of (H, W) grey values, W a multiple of 4: no compression, so no library's version shows in the bytes."""
    height, width = grey.shape
    palette = b"".join(bytes((v, v, v, 0)) for v in range(256))
    start = 14 + 40 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 0, grey.size, 2835, 2835, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + grey.size, 0, 0, start) + info + palette + grey[::-1].tobytes()


def write(root: Path, scratch: Path) -> None:
    """Write the files under `root`, all or none; nothing is touched where they are there already.

    Raises:
        UserError: where something else is there, or the folder cannot be written.
    """
    wanted = files()
    if not (root.is_dir() and any(root.iterdir())):
        with drafts.whole(root, scratch) as draft:
            for name, content in wanted.items():
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                (draft / name).write_bytes(content)
    there = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")}
    wrong = sorted(there ^ set(wanted)) or [name for name, content in wanted.items() if (root / name).read_bytes() != content]
    if wrong:
        raise UserError(f"{root} is not the digits set ({len(wrong)} files differ, such as {wrong[0]}): move it away, or read it as a `folder`")
