"""Images in Parquet and Arrow files: which columns, which row groups are decoded, and what damaged or hostile files say."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_shards import WRITERS, as_huggingface, as_parquet, cells, picture, world
from test_curate import curated, raw

from schemas.errors import UserError
from schemas.sources import HuggingFace, Parquet
from ssl_tasks.data import containers, sources, tables

TABLES = {"parquet": (Parquet, "train-00000-of-00001.parquet"), "huggingface": (HuggingFace, "train/data-00000-of-00002.arrow")}
"""How each is declared, and one file of it."""


def test_columns_are_checked_when_the_table_is_listed(tmp_path: Path) -> None:
    as_parquet(tmp_path / "pool", world())
    with pytest.raises(UserError, match=r"has no column 'img': set `source.image` to one of image, label"):
        sources.files(Parquet(path="pool", image="img"), tmp_path)
    with pytest.raises(UserError, match=r"has no column 'class': set `source.label` to one of"):
        sources.files(Parquet(path="pool", label="class"), tmp_path)
    with pytest.raises(UserError, match=r"column 'label' .* holds int64, not encoded images"):
        sources.files(Parquet(path="pool", image="label"), tmp_path)
    with pytest.raises(UserError, match=r"column 'image' .* holds struct.*: labels are"):
        sources.files(Parquet(path="pool", label="image"), tmp_path)


def test_plain_bytes_and_labels_of_text_are_read_from_parquet_and_from_both_formats_of_arrow(tmp_path: Path) -> None:
    table = pa.table({"img": pa.array([picture(1).data, None], pa.large_binary()), "kind": ["bird", None]})
    pq.write_table(table, tmp_path / "0.parquet")
    with pa.ipc.new_file(tmp_path / "data.arrow", table.schema) as file:
        file.write_table(table)
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    for source in (Parquet(path=".", image="img", label="kind"), HuggingFace(path=".", image="img", label="kind")):
        found = sources.files(source, tmp_path)
        assert [(f.label, f.split) for f in found] == [("bird", "train"), (None, "train")]
        assert containers.read_bytes(found[0].uri, tmp_path) == picture(1).data
        with pytest.raises(OSError, match="holds no bytes"):
            containers.read_bytes(found[1].uri, tmp_path)


def test_the_path_beside_missing_bytes_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1).data)
    table = cells([picture(1), picture(2)])
    nulled = pa.array([{"bytes": None, "path": str(tmp_path / "secret.png")}, table["image"][1].as_py()], table["image"].type)
    (tmp_path / "pool").mkdir()
    pq.write_table(table.set_column(0, "image", nulled), tmp_path / "pool/0.parquet")
    raw(tmp_path, kind="parquet")
    assert curated(tmp_path, ["integrity"])[1]["why"].to_pylist() == ["integrity: unreadable", ""]


def test_rows_in_order_decode_each_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [picture(seed) for seed in range(160)]
    pq.write_table(cells(pictures), tmp_path / "0.parquet", row_group_size=32)
    decoded: list[int] = []
    plain = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda file, group, **options: (decoded.append(group), plain(file, group, **options))[1])
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda row: tables.read_parquet(tmp_path / "0.parquet", row, "image"), range(128)))
    assert sorted(decoded) == [0, 1, 2, 3]
    images += [tables.read_parquet(tmp_path / "0.parquet", row, "image") for row in range(128, 160)]
    assert images == [p.data for p in pictures]
    assert sorted(decoded) == [0, 1, 2, 3, 4]


def test_a_row_group_too_large_to_be_decoded_for_one_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_parquet(tmp_path / "pool", world())
    monkeypatch.setattr(tables, "LARGEST_GROUP", 1000)
    with pytest.raises(UserError, match=r"row group 0 of .* write the file again with row groups below"):
        sources.files(Parquet(path="pool"), tmp_path)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.9])
def test_a_table_that_is_cut_short_is_a_user_error(tmp_path: Path, kind: str, keep: float) -> None:
    WRITERS[kind][0](tmp_path / "pool", world())
    declared, name = TABLES[kind]
    os.truncate(tmp_path / "pool" / name, int((tmp_path / "pool" / name).stat().st_size * keep))
    with pytest.raises(UserError, match="is damaged, or no table") as caught:
        sources.files(declared(path="pool"), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train/state.json", '{"_data_files": [{"filename": "../../secret.arrow"}]}', "names a file that is not there"),
        ("train/state.json", "{", "is damaged"),
        ("dataset_dict.json", '{"splits": ["train", "../up"]}', "has no state.json"),
        ("dataset_dict.json", '{"splits": "train"}', "names no splits"),
        ("dataset_dict.json", '{"splits": ["test"]}', "no folder 'train' among its splits"),
    ],
)
def test_what_a_saved_data_set_says_of_itself_leads_nowhere_else(tmp_path: Path, file: str, text: str, message: str) -> None:
    as_huggingface(tmp_path / "pool", world())
    (tmp_path / "secret.arrow").write_bytes((tmp_path / "pool/train/data-00000-of-00002.arrow").read_bytes())
    (tmp_path / "pool" / file).write_text(text)
    with pytest.raises(UserError, match=message):
        sources.files(HuggingFace(path="pool"), tmp_path)


@pytest.mark.parametrize("kind", TABLES)
def test_no_mutated_table_escapes_as_another_error_or_kills_the_process(tmp_path: Path, kind: str) -> None:
    WRITERS[kind][0](tmp_path / "pool", world())
    (declared, name), random = TABLES[kind], np.random.default_rng(0)
    path, outcomes = tmp_path / "pool" / name, set()
    sound = path.read_bytes()
    for number in range(300):
        data = bytearray(sound)
        for place in random.integers(0, len(data), random.integers(1, 6)):
            data[place] = random.integers(256)
        path.write_bytes(data[: random.integers(4, len(data) + 1)] if number % 3 == 0 else data)
        os.utime(path, ns=(number, number))
        try:
            for image in sources.files(declared(path="pool", label="label"), tmp_path):
                containers.read_bytes(image.uri, tmp_path)
            outcomes.add("read")
        except (UserError, OSError) as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            outcomes.add("told")
    assert outcomes == {"read", "told"}
