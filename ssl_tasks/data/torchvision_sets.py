"""Named torchvision data sets, downloaded by torchvision's own code and written out once as PNG files."""

import inspect
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from PIL import Image

from schemas.errors import UserError
from schemas.sources import Torchvision
from ssl_tasks.data import drafts

SPLITS = ("train", "val", "test")


def place(source: Torchvision, root: Path) -> Path:
    """Where the images of a set lie: `SPLIT/LABEL/NNNNNN.png`, or `SPLIT/NNNNNN.png` for a set without classes."""
    return root / f"{source.name}-images"


def write(source: Torchvision, root: Path, scratch: Path) -> None:
    """Download a set and write its images, unless they are there.

    Raises:
        UserError: where there is no such set, it cannot be downloaded, or its pictures are not one an item.
    """
    if place(source, root).exists():
        return
    splits = download(source, root)
    with drafts.whole(place(source, root), scratch) as draft:
        for split, items in splits.items():
            for i in range(len(items)):
                image, target = items[i][0], items[i][1]
                if not isinstance(image, Image.Image):
                    raise UserError(f"torchvision's {source.name} holds no pictures but {type(image).__name__}: choose a set of images")
                folder = draft / split / label(items, target)
                folder.mkdir(parents=True, exist_ok=True)
                image.save(folder / f"{i:06d}.png")


def download(source: Torchvision, root: Path) -> dict[str, Any]:
    """The data set of each of its splits; all in `train` where it has none."""
    import torchvision.datasets as known

    names = [n for n in known.__all__ if "download" in inspect.signature(getattr(known, n).__init__).parameters]
    if source.name not in names:
        near = get_close_matches(source.name, names, n=1, cutoff=0.6)
        advice = f"did you mean '{near[0]}'?" if near else f"those are {', '.join(sorted(names))}"
        raise UserError(f"source.name: torchvision.datasets has no downloadable set '{source.name}'; {advice}")
    make, parameters = getattr(known, source.name), inspect.signature(getattr(known, source.name).__init__).parameters
    if "train" in parameters:
        wanted: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
    elif "split" in parameters:
        wanted = {split: {"split": split} for split in SPLITS}
    else:
        wanted = {"train": {}}
    root.mkdir(parents=True, exist_ok=True)
    made = {}
    for split, arguments in wanted.items():
        try:
            made[split] = make(str(root), download=True, **arguments)
        except (ValueError, TypeError) as error:
            if split == "train":
                raise UserError(f"torchvision's {source.name} cannot be read as one image an item ({error}): write its images into a folder") from error
        except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong checksum a RuntimeError
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"cannot download {source.name} to {root} ({reason}): this needs a network; else put torchvision's files there, or use another source"
            ) from error
    return made


def label(items: Any, target: Any) -> str:
    """Folder name of an item's class; empty where the set has no classes or the item none."""
    if not isinstance(target, int) or target < 0:
        return ""
    classes = getattr(items, "classes", None)
    return str(classes[target] if classes else target).replace("/", "_").strip(". ") or str(target)
