"""The same small pictures as a folder, tar shards, Parquet files and a data set of Hugging Face's."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = ("cat", "dog")


class Picture(NamedTuple):
    """One encoded image of the small world."""

    split: str
    label: int
    name: str
    data: bytes


def picture(seed: int, split: str = "train") -> Picture:
    grid = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(grid).resize((24, 24), Image.Resampling.BICUBIC).save(file, "PNG")
    return Picture(split, seed % 2, f"{seed:04d}.png", file.getvalue())


def world() -> list[Picture]:
    """Six train pictures, of which the last repeats the first; one that is no image; two of the test split."""
    train = [picture(seed) for seed in range(5)]
    repeated, broken = train[0]._replace(name="0005.png"), Picture("train", 1, "0006.png", b"no image")
    return [picture(10, "test"), picture(11, "test"), *train, repeated, broken]


def as_folder(root: Path, pictures: Sequence[Picture]) -> None:
    for split, label, name, data in pictures:
        path = root / split / CLASSES[label] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def as_tars(root: Path, pictures: Sequence[Picture], a_shard: int = 4) -> None:
    for split in ("train", "test"):
        mine = [p for p in pictures if p.split == split]
        for number, start in enumerate(range(0, len(mine), a_shard)):
            members = []
            for p in mine[start : start + a_shard]:
                told = ("cls", CLASSES[p.label].encode()) if p.label else ("json", json.dumps({"label": CLASSES[p.label]}).encode())
                members += [(p.name, p.data), (f"{p.name.removesuffix('.png')}.{told[0]}", told[1])]
            tar(root / split / f"{number:04d}.tar", members)


def cells(pictures: Sequence[Picture]) -> pa.Table:
    """As Hugging Face writes images: bytes and a path that nothing must follow."""
    images = pa.array([{"bytes": p.data, "path": "/etc/passwd"} for p in pictures], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    return pa.table({"image": images, "label": pa.array([p.label for p in pictures], pa.int64())})


FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(CLASSES)}}


def as_parquet(root: Path, pictures: Sequence[Picture]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        table = cells([p for p in pictures if p.split == split])
        noted = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
        pq.write_table(noted, root / f"{split}-00000-of-00001.parquet", row_group_size=3)


def as_huggingface(root: Path, pictures: Sequence[Picture]) -> None:
    for split in ("train", "test"):
        table, folder = cells([p for p in pictures if p.split == split]), root / split
        folder.mkdir(parents=True, exist_ok=True)
        half = len(table) // 2
        names = [f"data-{i:05d}-of-00002.arrow" for i in range(2)]
        for name, part in zip(names, (table.slice(0, half), table.slice(half)), strict=True):
            with pa.ipc.new_stream(folder / name, table.schema) as stream:
                stream.write_table(part, max_chunksize=2)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], "_split": split}))
        (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
        (folder / "cache-1f0.arrow").write_bytes(b"what `datasets` keeps of its own")
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))


WRITERS = {
    "folder": (as_folder, {"labels": True, "splits": True}),
    "webdataset": (as_tars, {"labels": True, "splits": True}),
    "parquet": (as_parquet, {"label": "label", "splits": True}),
    "huggingface": (as_huggingface, {"label": "label"}),
}
"""How each kind of source is written, and declared."""
