"""Images inside tar shards, Parquet files and Arrow files: the same as in a folder, and safe from what hostile files say."""

import io
import os
import re
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from small_shards import WRITERS, as_tars, picture, tar, world
from test_curate import curated, raw

from schemas.artifacts import Dataset, read
from schemas.errors import UserError
from schemas.load import loads
from schemas.sources import HuggingFace, Parquet, WebDataset
from schemas.stages import Ingest
from ssl_tasks.data import containers, manifest, sources, tars
from ssl_tasks.data.fingerprint import fingerprint
from ssl_tasks.data.store import open_store

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("webdataset", "parquet", "huggingface")


def listed(workspace: Path, kind: str, **more: Any) -> pa.Table:
    """The manifest of the small world written as one kind of source."""
    write, declared = WRITERS[kind]
    write(workspace / "pool", world())
    raw(workspace, kind=kind, **{**declared, **more})
    dataset = read(workspace / ".sslflow/artifacts/raw")
    assert isinstance(dataset, Dataset)
    return manifest.read(dataset)


def content(table: pa.Table) -> list[tuple[Any, ...]]:
    return sorted(zip(*(table[name].to_pylist() for name in ("sha256", "bytes", "width", "mode", "label", "split")), strict=True), key=str)


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_lists_what_a_folder_of_the_same_files_does(tmp_path: Path, kind: str) -> None:
    for name in (kind, "folder"):
        (tmp_path / name).mkdir()
    table, plain = listed(tmp_path / kind, kind), listed(tmp_path / "folder", "folder")
    assert content(table) == content(plain)
    assert table["label"].to_pylist().count("cat") == 5
    held_out = listed(tmp_path / kind, kind, holdout=0.4)["split"].to_pylist()
    assert 2 < held_out.count("test") < 9


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_is_curated_and_stored_without_being_unpacked(tmp_path: Path, kind: str) -> None:
    listed(tmp_path, kind)
    before = sorted(path for path in (tmp_path / "pool").rglob("*"))
    dataset, table, _ = curated(tmp_path, ["integrity", "exact_duplicates"])
    assert sorted(filter(None, table["why"].to_pylist())) == ["exact_duplicates: equal pixels", "integrity: wrong type"]
    kept = manifest.kept(table)
    store = open_store(kept, tmp_path, 24, 3, tmp_path / "cache")
    wanted = np.stack([np.asarray(Image.open(io.BytesIO(p.data))).transpose(2, 0, 1) for p in map(picture, range(5))])
    assert dataset.kept == 5
    assert np.array_equal(store, wanted)
    assert sorted(path for path in (tmp_path / "pool").rglob("*")) == before


def test_uris_say_where_in_which_container_and_people_read_them_in_words(tmp_path: Path) -> None:
    assert listed(tmp_path, "webdataset")["uri"].to_pylist()[0] == "tar://0010.png::pool/test/0000.tar"
    assert containers.place("tar://a%20b.png::pool/0.tar", tmp_path) == f"a b.png in {tmp_path}/pool/0.tar"
    assert containers.place("parquet://3/my%3A%3Acolumn::s3://b/0.parquet", tmp_path) == "row 3, column my::column in s3://b/0.parquet"
    assert containers.parted("a::b.png") == ("", "", "a::b.png")
    assert containers.parted("tar:/folder/1.png") == ("", "", "tar:/folder/1.png")


def test_names_with_colons_percents_and_bytes_that_are_no_text_are_read_back(tmp_path: Path) -> None:
    names = ("a::b.png", "100%.png", "tar:/x::y.png", "deep/er/é 图.png", os.fsdecode(b"\xff\xfe.png"), "x" * 300 + ".png", "./dot.png")
    data = {name: picture(i).data for i, name in enumerate(names)}
    tar(tmp_path / "odd::name.tar", list(data.items()))
    found = sources.files(WebDataset(path="."), tmp_path)
    assert [containers.read_bytes(f.uri, tmp_path) for f in found] == list(data.values())
    assert all(f.uri.encode().isascii() for f in found)


def test_a_glob_or_one_file_names_shards(tmp_path: Path) -> None:
    as_tars(tmp_path / "pool", world(), a_shard=2)
    assert len(sources.files(WebDataset(path="pool/train/*.tar"), tmp_path)) == 7
    assert len(sources.files(WebDataset(path="pool/**/0000.tar"), tmp_path)) == 4
    assert len(sources.files(WebDataset(path=str(tmp_path / "pool/train/0001.tar")), tmp_path)) == 2
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/9.tar").symlink_to(tmp_path / "pool/train/0000.tar")
    with pytest.raises(UserError, match="no tar files under"):
        sources.files(WebDataset(path="elsewhere/*.tar"), tmp_path)
    with pytest.raises(UserError, match=r"no tar files match .*x-"):
        sources.files(WebDataset(path="pool/x-*.tar"), tmp_path)
    with pytest.raises(UserError, match=r"nowhere.tar does not exist"):
        sources.files(WebDataset(path="nowhere.tar"), tmp_path)


def test_the_split_of_a_shard_in_no_folder_is_the_start_of_its_name(tmp_path: Path) -> None:
    for name in ("train-0000.tar", "train-0001.tar", "val.tar"):
        tar(tmp_path / name, [("1.png", picture(1).data)])
    assert [f.split for f in sources.files(WebDataset(path=".", splits=True), tmp_path)] == ["train", "train", "val"]
    with pytest.raises(UserError, match="no folder 'train' among its splits"):
        sources.files(WebDataset(path="val*", splits=True), tmp_path)


def test_what_is_hidden_in_a_tar_and_what_is_no_image_is_left_out(tmp_path: Path) -> None:
    members = [("1.png", picture(1).data), ("._1.png", b"macOS"), (".cache/2.png", b"x"), ("1.txt", b"a caption"), ("1.seg.PNG", picture(2).data)]
    tar(tmp_path / "0.tar", members)
    tar(tmp_path / "1.tar", [])
    assert [f.uri for f in sources.files(WebDataset(path="."), tmp_path)] == [f"tar://{name}::0.tar" for name in ("1.png", "1.seg.PNG")]
    tar(tmp_path / "none/0.tar", [("1.txt", b"x")])
    with pytest.raises(UserError, match="no images in the files at none"):
        sources.files(WebDataset(path="none"), tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd.png", "../../up.png", "a/../../up.png", "a/..//b/../x.png"])
def test_a_name_that_points_out_of_the_archive_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    tar(tmp_path / "pool/0.tar", [("1.png", picture(1).data), (name, picture(2).data)])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="which points out of it") as caught:
        sources.files(WebDataset(path="pool"), tmp_path)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_devices_are_listed_but_never_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(3).data)
    path = tmp_path / "pool/0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name, kind in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("device", tarfile.CHRTYPE), ("pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f"{name}.png")
            info.type, info.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(info)
        info = tarfile.TarInfo("good.png")
        info.size = len(data := picture(1).data)
        archive.addfile(info, io.BytesIO(data))
    raw(tmp_path, kind="webdataset")
    table = curated(tmp_path, ["integrity"])[1]
    assert [why for why in table["why"].to_pylist() if why] == ["integrity: unreadable"] * 4
    assert table["sha256"].to_pylist()[:4] == [""] * 4


def test_a_last_member_that_is_cut_short_ends_in_quarantine(tmp_path: Path) -> None:
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(noise, "PNG")
    path = tar(tmp_path / "pool/0.tar", [("1.png", picture(1).data), ("2.png", noise.getvalue())])
    os.truncate(path, int(tars.members(path).offsets[1]) + 5000)
    raw(tmp_path, kind="webdataset")
    assert curated(tmp_path, ["integrity"])[1]["why"].to_pylist() == ["", "integrity: truncated"]


def negative_size() -> bytes:
    """A header whose size is a negative number in base 256, on which readers have gone round for ever."""
    header = bytearray(tarfile.TarInfo("1.png").tobuf())
    header[124:136] = struct.pack(">IQ", 0xFFFFFFFF, 2**64 - 1024)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


def whole(count: int = 2) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(count):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = 600
            archive.addfile(info, io.BytesIO(bytes(600)))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty, not even a tar"),
        (b"\x1f\x8b\x08\x00" + bytes(100), "is compressed"),
        (b"BZh91AY" + bytes(100), "is compressed"),
        (b"PK\x03\x04" + bytes(600), "is damaged or no tar"),
        (b"some text " * 100, "is damaged or no tar"),
        (whole()[: 512 + 1024 + 100], "is damaged or no tar"),
        (whole()[: 512 + 1024] + b"x" * 512, r"no header at byte 1,536"),
        (whole() + whole(), "several tars in one"),
        (negative_size() + bytes(2048), "negative size"),
        (negative_size()[:100] + bytes(2048), "is damaged or no tar"),
    ],
)
def test_a_shard_that_cannot_be_read_is_a_user_error_of_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "0.tar").write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        sources.files(WebDataset(path="."), tmp_path)
    assert "\n" not in str(caught.value)
    assert "0.tar" in str(caught.value)


def test_a_compressed_shard_is_refused_by_its_name_too(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", [("1.png", picture(1).data)])
    (tmp_path / "1.tar.zst").write_bytes(b"any")
    with pytest.raises(UserError, match=r"1.tar.zst is compressed.*decompress it to a plain .tar"):
        sources.files(WebDataset(path="."), tmp_path)


def test_a_link_to_a_shard_that_is_gone_is_a_user_error(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", [("1.png", picture(1).data)])
    (tmp_path / "1.tar").symlink_to(tmp_path / "gone.tar")
    with pytest.raises(UserError, match=r"cannot read .*1.tar \(No such file or directory\)"):
        sources.files(WebDataset(path="."), tmp_path)


def test_a_name_that_stands_twice_in_a_shard_is_refused(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", [("1.png", picture(1).data), ("2.png", picture(2).data), ("1.png", picture(3).data)])
    with pytest.raises(UserError, match=r"0.tar holds 1.png twice"):
        sources.files(WebDataset(path="."), tmp_path)


def test_no_mutated_shard_escapes_as_another_error(tmp_path: Path) -> None:
    as_tars(tmp_path / "pool", world())
    sound, random = (tmp_path / "pool/train/0000.tar").read_bytes(), np.random.default_rng(0)
    headers = [i for i in range(0, len(sound), 512) if sound[i + 257 : i + 262] == b"ustar"]
    for number in range(300):
        data = bytearray(sound[: random.integers(600, len(sound) + 1)] if number % 3 == 0 else sound)
        for start in random.choice(headers, 2):
            at = start + random.integers(0, 512, 3)
            data[slice(at[0], at[0] + 1)] = random.bytes(1)
            if number % 2:  # a sound checksum lets the damage through
                data[start + 148 : start + 156] = b" " * 8
                data[start + 148 : start + 156] = f"{sum(data[start : start + 512]):06o}\0 ".encode()
        path = tmp_path / f"mutated/{number}.tar"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        try:
            names = tars.members(path).names.to_pylist()
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            continue
        for name in names:
            try:
                assert len(tars.read(path, name)) <= len(data)
            except OSError as error:
                assert "link or a device" in str(error)  # noqa: PT017 - likewise


@pytest.mark.parametrize(("name", "data"), [("1.cls", b"\xff\xfe"), ("1.json", b"{"), ("1.json", b'{"label": [1]}')])
def test_a_label_that_cannot_be_read_is_a_user_error(tmp_path: Path, name: str, data: bytes) -> None:
    tar(tmp_path / "0.tar", [("1.png", picture(1).data), (name, data)])
    with pytest.raises(UserError, match=rf"{name} in shard .*0.tar .*set `labels: false`"):
        sources.files(WebDataset(path=".", labels=True), tmp_path)
    assert [f.label for f in sources.files(WebDataset(path="."), tmp_path)] == [None]


def test_a_changed_shard_is_read_anew_and_a_missing_one_is_an_os_error(tmp_path: Path) -> None:
    path = tar(tmp_path / "0.tar", [("1.png", b"first")])
    assert containers.read_bytes("tar://1.png::0.tar", tmp_path) == b"first"
    tar(path, [("0.png", b"x"), ("1.png", b"second")])
    os.utime(path, ns=(1, 1))
    assert containers.read_bytes("tar://1.png::0.tar", tmp_path) == b"second"
    for uri in ("tar://2.png::0.tar", "tar://1.png::nowhere.tar", "parquet://0/image::nowhere.parquet", "arrow://0/image::nowhere.arrow"):
        with pytest.raises(OSError, match=r"no such|No such"):
            containers.read_bytes(uri, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fingerprint_follows_the_shards_and_imports_nothing_heavy(tmp_path: Path, kind: str) -> None:
    WRITERS[kind][0](tmp_path / "pool", world())
    source = {"webdataset": WebDataset, "parquet": Parquet, "huggingface": HuggingFace}[kind](path="pool")
    first = fingerprint(source, tmp_path)
    (tmp_path / "pool/cache-9.arrow").touch()
    (tmp_path / "pool/README.md").touch()
    assert fingerprint(source, tmp_path) == first
    os.utime(next(p for p in (tmp_path / "pool").rglob("*0*.*") if p.is_file() and not p.name.startswith("cache")), ns=(1, 1))
    assert fingerprint(source, tmp_path) != first
    script = (
        "import sys; from pathlib import Path; from schemas.sources import WebDataset; from ssl_tasks.data.fingerprint import fingerprint\n"
        "fingerprint(WebDataset(path=sys.argv[1]), Path('.')); print(sorted({'torch', 'numpy', 'pyarrow', 'PIL', 'fsspec'} & set(sys.modules)))"
    )
    tar(tmp_path / "t/0.tar", [])
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "t")], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_sources_of_the_documentation_are_valid() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/sources.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    kinds = []
    for block in blocks:
        (stage,) = loads(f"name: documented\nstages:\n{indent(block, '  ')}", Path("sources.md")).stages.values()
        assert isinstance(stage, Ingest)
        kinds.append(stage.source.kind)
    assert kinds == ["folder", "webdataset", "parquet", "huggingface", "webdataset"]


def test_listing_tells_how_many_shards_are_listed(tmp_path: Path) -> None:
    as_tars(tmp_path / "pool", world(), a_shard=2)
    told: list[tuple[int, int]] = []
    sources.files(WebDataset(path="pool"), tmp_path, lambda done, of: told.append((done, of)))
    assert told == [(done, 5) for done in range(1, 6)]
