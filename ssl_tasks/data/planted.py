"""A pool whose faults are known, made from clean labelled images: what a curation finds in it can be counted, and what it is worth measured.

The pool's train split holds a long tail of classes, near copies of its own images, junk, and near copies of test images; `truth.json`
says which file is what. Its test split is that of the clean images.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from schemas.errors import UserError
from schemas.job import CACHE
from schemas.sources import Digits, Planted
from ssl_tasks.data import digits, drafts
from ssl_tasks.data.folder import Found, listing
from ssl_tasks.data.images import open_image

VERSION = 1
"""Raised when the same config would draw other images."""
COPIED = 0.25
"""Share of the originals that have copies at all, so that some are frequent and most are not."""


class Planned(NamedTuple):
    """One file of the train split: what it is, and the clean image that it is of; junk is of none."""

    what: str
    of: Found | None


def place(source: Planted, workspace: Path) -> Path:
    """Folder of the parts: `pool/SPLIT/LABEL/NNNNN.png`, `seeds/train/LABEL/NNNNN.png` and `truth.json`."""
    stamp = hashlib.sha256(f"{VERSION}:{source.model_dump_json(exclude={'part'})}".encode()).hexdigest()[:12]
    return workspace / CACHE.parent / "generated" / f"planted-{stamp}"


def write(source: Planted, root: Path, workspace: Path) -> None:
    """Write both parts, unless they are there.

    Raises:
        UserError: where the clean images have no labels, no test split, or are too few.
    """
    if root.exists():
        return
    train, test = clean(source, workspace)
    seeds, pool = planned(source, train, test)
    with drafts.whole(root, workspace / CACHE) as draft:
        for found in seeds:
            _save(_open(found), draft / "seeds/train" / str(found.label), found.path.stem)
        for found in test:
            _save(_open(found), draft / "pool/test" / str(found.label), found.path.stem)
        truth = {}
        for number, (what, of) in enumerate(pool):
            random = np.random.default_rng((source.seed, number))
            image = junk(random, _open(train[0]).size) if of is None else _open(of) if what == "original" else near(_open(of), random)
            folder = draft / "pool/train" / (str(of.label) if of else "junk")
            _save(image, folder, f"{number:06d}")
            truth[f"train/{folder.name}/{number:06d}.png"] = {"what": what, "of": of.path.name if of else None}
        (draft / "truth.json").write_text(json.dumps(truth))


def clean(source: Planted, workspace: Path) -> tuple[list[Found], list[Found]]:
    """The labelled train and test images that the pool is made from."""
    root = workspace / source.images.path
    if isinstance(source.images, Digits):
        digits.write(root, workspace / CACHE)
    found = [f for f in listing(root, labels=True, splits=True) if f.label is not None]
    train, test = ([f for f in found if f.split == split] for split in ("train", "test"))
    if len({f.label for f in train}) < 2 or not test:
        raise UserError(f"{root} must hold train/CLASS/* of two classes or more and test/CLASS/*, for a `planted` pool to be made from it")
    return train, test


def planned(source: Planted, train: Sequence[Found], test: Sequence[Found]) -> tuple[list[Found], list[Planned]]:
    """The seed set, and what each file of the pool's train split is to be, in the order of the pool."""
    random = np.random.default_rng(source.seed)
    labels = sorted({str(f.label) for f in train})
    members = {label: [train[i] for i in random.permutation([i for i, f in enumerate(train) if f.label == label])] for label in labels}
    seeds = [f for label in labels for f in members[label][: source.seeds]]
    weights = source.tail ** -np.linspace(0, 1, len(labels))
    wanted = np.maximum(1, np.round(source.originals * weights / weights.sum())).astype(int)
    originals = [f for label, count in zip(labels, wanted, strict=True) for f in members[label][source.seeds : source.seeds + count]]
    if len(originals) < 0.9 * source.originals:
        raise UserError(f"source.originals: {source.originals} images of a tail of 1:{source.tail:g} asked for, but the largest class has too few; lower it")
    total = len(originals) / (1 - source.copies - source.junk - source.leaks)
    often = random.choice(len(originals), max(1, round(COPIED * len(originals))), replace=False)
    pool = [Planned("original", f) for f in originals]
    pool += [Planned("copy", originals[i]) for i in random.choice(often, round(source.copies * total))]
    pool += [Planned("leak", test[i]) for i in random.choice(len(test), round(source.leaks * total))]
    pool += [Planned("junk", None)] * round(source.junk * total)
    return seeds, [pool[i] for i in random.permutation(len(pool))]


def near(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A near copy: brightness and contrast a little changed, a pixel in sixteen cropped away, and a little noise."""
    width, height = image.size
    left, top = (int(random.integers(0, side // 16 + 1)) for side in (width, height))
    box = (left, top, width - width // 16 + left, height - height // 16 + top)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box), np.float32)
    changed = (pixels - pixels.mean()) * random.uniform(0.85, 1.15) + pixels.mean() + random.uniform(-12, 12) + random.normal(0, 2, pixels.shape)
    return Image.fromarray(changed.clip(0, 255).round().astype(np.uint8))


def junk(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """What crawls bring along: noise, a blank page, or one with text."""
    kind = random.integers(3)
    if kind == 0:
        return Image.fromarray(random.integers(0, 256, (size[1], size[0]), np.uint8))
    page = Image.new("L", size, int(random.integers(200, 256)))
    if kind == 2:
        draw = ImageDraw.Draw(page)
        for line in range(0, size[1], max(4, size[1] // 6)):
            draw.text((1, line - 2), "".join(random.choice(list("etaoinshrdlu "), 24)), fill=int(random.integers(0, 80)), font_size=max(6, size[1] / 5))
    return page


def _open(found: Found) -> Any:
    return open_image(found.path)


def _save(image: Image.Image, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / f"{name}.png")
