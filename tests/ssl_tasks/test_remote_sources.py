"""Sources behind an address, against a server on this machine that speaks S3: listed, downloaded once, and told apart when they change."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from small_shards import WRITERS, picture, world
from test_curate import curated, raw

from schemas.artifacts import Dataset, read
from schemas.errors import UserError
from schemas.job import CACHE
from schemas.sources import Folder, WebDataset
from ssl_tasks.data import containers, manifest, remote, sources
from ssl_tasks.data.fingerprint import fingerprint
from ssl_tasks.data.store import open_store


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    """A bucket, `s3://pictures`, reached as users do it: by the environment."""
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        told = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "who", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1"}
        for name, value in told.items():
            patch.setenv(f"AWS_{name}", value)
        S3FileSystem.clear_instance_cache()
        made = fsspec.filesystem("s3")
        made.mkdir("pictures")
        yield made
    S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def bucket(store: Any) -> Iterator[Any]:
    """The bucket, empty."""
    yield store
    S3FileSystem.clear_instance_cache()  # a test may have changed the environment
    store.invalidate_cache()
    if keys := store.find("pictures"):
        store.rm(keys)


def listed(workspace: Path, path: str, kind: str) -> Any:
    raw(workspace, **{"kind": kind, **WRITERS[kind][1], "path": path})
    dataset = read(workspace / ".sslflow/artifacts/raw")
    assert isinstance(dataset, Dataset)
    return manifest.read(dataset)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_source_in_a_bucket_is_listed_curated_and_stored_like_the_one_on_disk(bucket: Any, tmp_path: Path, kind: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    WRITERS[kind][0](here / "pool", world())
    bucket.put(f"{here / 'pool'}/", "pictures/raw/", recursive=True)
    bucket.pipe("pictures/raw2/train/cat/0.png", b"beside it")
    table, plain = listed(there, "s3://pictures/raw", kind), listed(here, "pool", kind)
    columns = [name for name in table.column_names if name != "uri"]
    assert table.select(columns).equals(plain.select(columns))
    assert table["uri"].to_pylist() == [uri.replace("pool/", "s3://pictures/raw/") for uri in plain["uri"].to_pylist()]
    dataset, decided, _ = curated(there, ["integrity", "exact_duplicates"])
    assert dataset.kept == 5
    assert open_store(manifest.kept(decided), there, 24, 3, there / "cache").shape == (5, 3, 24, 24)


def test_each_file_is_downloaded_once(bucket: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    WRITERS["webdataset"][0](tmp_path / "pool", world())
    bucket.put(f"{tmp_path / 'pool'}/", "pictures/raw/", recursive=True)
    caplog.set_level("INFO", "werkzeug")
    for _ in range(2):
        table = listed(tmp_path / "there", "s3://pictures/raw", "webdataset")
        open_store(manifest.kept(table).slice(0, 5), tmp_path / "there", 24, 3, tmp_path / "there/cache")
    assert downloads(caplog) == ["test/0000.tar", "train/0000.tar", "train/0001.tar"]
    shutil.rmtree(tmp_path / "there" / CACHE)
    assert containers.read_bytes(table["uri"][2].as_py(), tmp_path / "there") == picture(0).data
    assert downloads(caplog) == ["test/0000.tar", "train/0000.tar", "train/0000.tar", "train/0001.tar"]


def downloads(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server was asked for of `s3://pictures/raw`, sorted."""
    return sorted(re.findall(r"GET /pictures/raw/(\S+) HTTP", caplog.text))


def test_a_changed_object_changes_the_fingerprint_and_is_downloaded_anew(bucket: Any, tmp_path: Path) -> None:
    source = Folder(path="s3://pictures/raw")
    bucket.pipe("pictures/raw/1.png", picture(1).data)
    first, (found,) = fingerprint(source, tmp_path), sources.files(source, tmp_path)
    assert containers.read_bytes(found.uri, tmp_path, found.stamp) == picture(1).data
    bucket.pipe("pictures/raw/1.png", picture(1).data)
    bucket.pipe("pictures/raw/notes.txt", b"no image")
    bucket.pipe("pictures/raw/.hidden/2.png", b"x")
    assert fingerprint(source, tmp_path) == first  # the same bytes at another time
    bucket.pipe("pictures/raw/1.png", picture(2).data)
    assert fingerprint(source, tmp_path) != first
    (found,) = sources.files(source, tmp_path)
    assert containers.read_bytes(found.uri, tmp_path, found.stamp) == picture(2).data == containers.read_bytes(found.uri, tmp_path)
    assert len([p for p in (tmp_path / CACHE / "remote").rglob("*") if p.is_file()]) == 1


def test_a_download_that_was_killed_is_begun_anew(bucket: Any, tmp_path: Path) -> None:
    bucket.pipe("pictures/raw/1.png", picture(1).data)
    (found,) = sources.files(Folder(path="s3://pictures/raw"), tmp_path)
    path = remote.fetch(found.uri, tmp_path, found.stamp)
    path.rename(path.with_name("partial"))
    os.truncate(path.with_name("partial"), 20)
    assert containers.read_bytes(found.uri, tmp_path) == picture(1).data
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_threads_that_want_one_shard_download_it_once(bucket: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bucket.pipe("pictures/raw/0.tar", bytes(300_000))
    caplog.set_level("INFO", "werkzeug")
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: remote.fetch("s3://pictures/raw/0.tar", tmp_path), range(16)))
    assert len(paths) == 1
    assert downloads(caplog) == ["0.tar"]


def test_a_full_disk_is_a_user_error_that_names_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = fsspec.filesystem("memory")
    store.pipe("/full/1.png", picture(1).data)
    monkeypatch.setattr(type(store), "get_file", full)
    with pytest.raises(UserError, match=r"cannot keep memory://full/1.png in .*remote.* \(No space left on device\): free space there"):
        containers.read_bytes("memory://full/1.png", tmp_path)


def test_keys_that_are_odd_names_are_read_back(bucket: Any, tmp_path: Path) -> None:
    names = ("a::b.png", "100%.png", "sp ace.png", "é 图.png", "q#1.png")
    for number, name in enumerate(names):
        bucket.pipe(f"pictures/odd/{name}", picture(number).data)
    found = {Path(f.uri).name: f for f in sources.files(Folder(path="s3://pictures/odd/"), tmp_path)}
    assert [containers.read_bytes(found[name].uri, tmp_path, found[name].stamp) for name in names] == [picture(n).data for n in range(5)]


def test_a_glob_and_one_object_name_shards(bucket: Any, tmp_path: Path) -> None:
    WRITERS["webdataset"][0](tmp_path / "pool", world())
    bucket.put(f"{tmp_path / 'pool'}/", "pictures/raw/", recursive=True)
    for path, count in (("s3://pictures/raw/train/*.tar", 7), ("s3://pictures/raw/*/0000.tar", 6), ("s3://pictures/raw/train/0001.tar", 3)):
        assert len(sources.files(WebDataset(path=path), tmp_path)) == count
    assert {f.split for f in sources.files(WebDataset(path="s3://pictures/raw/*/*.tar", splits=True), tmp_path)} == {"train", "test"}


def test_an_object_that_is_gone_is_listed_as_unreadable(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        bucket.pipe(f"pictures/raw/{number}.png", picture(number).data)
    plain = remote.listing
    monkeypatch.setattr(remote, "listing", lambda address: (plain(address), bucket.rm("pictures/raw/1.png"))[0])
    raw(tmp_path, path="s3://pictures/raw")
    assert curated(tmp_path, ["integrity"])[1]["why"].to_pylist() == ["", "integrity: unreadable"]


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3://nowhere/raw", "at s3://nowhere/raw"),
        ("s3://pictures/empty", "no jpg .* files at s3://pictures/empty"),
        ("nosuch://pictures", "cannot list nosuch://pictures"),
        ("memory://nothing", "memory://nothing"),
    ],
)
def test_an_address_where_nothing_is_found_is_a_user_error_of_one_line(tmp_path: Path, path: str, message: str) -> None:
    for ask in (lambda: sources.files(Folder(path=path), tmp_path), lambda: fingerprint(Folder(path=path), tmp_path)):
        with pytest.raises(UserError, match=message) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_no_rights_and_no_network_are_user_errors_that_say_where_rights_come_from(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.pipe("pictures/raw/1.png", picture(1).data)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match=r"cannot list s3://pictures/raw .*credentials.*environment"):
        sources.files(Folder(path="s3://pictures/raw"), tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match=r"cannot list s3://pictures/raw .*the network") as caught:
        sources.files(Folder(path="s3://pictures/raw"), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("path", "message"), [("tar://a::s3://b/c.tar", "must be one address"), ("file:///data", "must be the path itself")])
def test_addresses_that_would_be_read_otherwise_are_refused_in_the_pipeline(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Folder(path=path)
