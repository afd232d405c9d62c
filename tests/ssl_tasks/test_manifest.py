"""The manifest, and the ingest that writes it."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.artifacts import Dataset, read
from schemas.errors import UserError
from schemas.job import Job
from schemas.sources import Digits, Folder, Source
from schemas.stages import Ingest
from ssl_tasks.data import manifest
from ssl_tasks.ingest import ingest
from ssl_tasks.tracking import JSONLines

INGEST = """
import sys
import time
from pathlib import Path
from schemas.job import Job
from ssl_tasks.ingest import ingest
from ssl_tasks.tracking import JSONLines
job = Job.model_validate_json(sys.stdin.read())
ingest(job, JSONLines(job.work / "events.jsonl"))
"""


def job_of(source: Source, workspace: Path, key: str = "raw1") -> Job:
    return Job(name="raw", pipeline="test", stage=Ingest(source=source), key=key, outputs={"": key}, workspace=workspace)


def ingested(source: Source, workspace: Path, key: str = "raw1") -> Dataset:
    job = job_of(source, workspace, key)
    dataset = ingest(job, JSONLines(job.work / "events.jsonl"))[""]
    assert isinstance(dataset, Dataset)
    return dataset


def pictures(root: Path, count: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(np.full((8 + i, 12), 20 * i % 256, np.uint8)).save(root / f"{i}.png")


def test_every_image_has_a_row_with_its_hash_and_what_its_header_says(tmp_path: Path) -> None:
    pictures(tmp_path / "pool", 3)
    (tmp_path / "pool/broken.jpg").write_bytes(b"no image")
    dataset = ingested(Folder(path="pool"), tmp_path)
    table = manifest.read(dataset)
    assert table.schema == manifest.SCHEMA
    assert (dataset.rows, dataset.kept) == (4, 4)
    assert dataset.metrics == {"images": 4, "labels": 0, "splits": 1, "bytes": sum(p.stat().st_size for p in (tmp_path / "pool").iterdir())}
    assert table.slice(2, 2).to_pylist() == [
        {
            **{"id": i, "uri": f"pool/{name}", "sha256": hashlib.sha256((tmp_path / "pool" / name).read_bytes()).hexdigest()},
            **{"bytes": (tmp_path / "pool" / name).stat().st_size, "width": width, "height": height, "mode": mode, "label": None},
            **{"split": "train", "kept": True, "why": "", "duplicate_of": None, "cluster": None, "contrast": None, "sharpness": None},
        }
        for i, name, width, height, mode in ((2, "2.png", 12, 10, "L"), (3, "broken.jpg", None, None, None))
    ]


def test_images_outside_the_workspace_have_an_absolute_uri(tmp_path: Path) -> None:
    pictures(tmp_path / "elsewhere", 1)
    (tmp_path / "workspace").mkdir()
    for path in (str(tmp_path / "elsewhere"), "../elsewhere"):
        table = manifest.read(ingested(Folder(path=path), tmp_path / "workspace", key=path.replace("/", "_")))
        assert table["uri"].to_pylist() == [(tmp_path / "elsewhere/0.png").as_posix()]


def test_the_digits_are_listed_in_two_splits_and_ten_classes(tmp_path: Path) -> None:
    dataset = ingested(Digits(), tmp_path)
    table = manifest.read(dataset)
    assert (dataset.rows, len(manifest.kept(table)), len(manifest.kept(table, "test"))) == (1797, 1297, 500)
    assert set(table["label"].to_pylist()) == set("0123456789")
    assert set(table["width"].to_pylist()) == {8}


def test_holdout_puts_copies_of_a_file_on_the_same_side(tmp_path: Path) -> None:
    pictures(tmp_path / "pool/a", 30)
    pictures(tmp_path / "pool/b", 30)
    table = manifest.read(ingested(Folder(path="pool", holdout=0.4), tmp_path))
    splits = table["split"].to_pylist()
    assert splits[:30] == splits[30:]
    assert 5 < splits[:30].count("test") < 20


def test_equal_content_gives_equal_bytes_in_another_process(tmp_path: Path) -> None:
    pictures(tmp_path / "pool", 4)
    here = ingested(Folder(path="pool"), tmp_path, key="here")
    job = job_of(Folder(path="pool"), tmp_path, key="there")
    subprocess.run([sys.executable, "-c", INGEST], input=job.model_dump_json(), text=True, check=True)
    assert read(job.folder("there")).files == here.files


def test_columns_are_exchanged_with_their_types(tmp_path: Path) -> None:
    pictures(tmp_path / "pool", 3)
    table = manifest.read(ingested(Folder(path="pool"), tmp_path))
    changed = manifest.replace(table, kept=[True, False, True], duplicate_of=[None, 0, None])
    assert changed.schema == manifest.SCHEMA
    assert manifest.kept(changed)["id"].to_pylist() == [0, 2]
    assert manifest.column(changed, "duplicate_of").tolist() == [None, 0, None]
    assert manifest.kept(table)["id"].to_pylist() == [0, 1, 2]


def test_a_damaged_manifest_is_a_user_error_that_names_the_file(tmp_path: Path) -> None:
    pictures(tmp_path / "pool", 1)
    dataset = ingested(Folder(path="pool"), tmp_path)
    path = dataset.path(manifest.FILE)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"manifest.parquet is damaged"):
        manifest.read(dataset)


def test_texts_are_looked_up_in_linear_time() -> None:
    texts = np.array([f"{i:064d}" for i in range(200_000)], object)
    began = time.process_time()
    assert manifest.among(texts, texts[::2]).tolist() == [True, False] * 100_000
    assert time.process_time() - began < 5
