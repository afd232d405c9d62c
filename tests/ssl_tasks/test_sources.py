"""Where images come from: what is written, what is found, and what is said when there is nothing."""

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from schemas.errors import UserError
from schemas.sources import Digits, Folder, Planted, Scenes, Torchvision
from ssl_tasks.data import drafts, sources
from ssl_tasks.data.fingerprint import fingerprint

TREE = "c91f886ae26d80f96ce18352ffa7ab03b97e7aeb3f37f2646dcaf1d8019f8b61"


def tree(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (10, 10), value).save(path)
    return path


@pytest.fixture(scope="module")
def digits_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("digits")
    sources.materialise(Digits(), workspace)
    return workspace


def test_the_digits_are_the_same_bytes_on_every_machine(digits_workspace: Path) -> None:
    assert tree(digits_workspace / "data/digits") == TREE


def test_pillow_reads_the_digits_back_to_the_exact_values(digits_workspace: Path) -> None:
    wanted = (load_digits().images * 255 / 16).round().astype(int)
    found = sources.files(Digits(), digits_workspace)
    for file in found:
        with Image.open(file.path) as image:
            assert image.mode == "L"
            difference = np.asarray(image).astype(int) - wanted[int(file.path.stem)]
        assert set(np.unique(difference)) <= {0}
    assert [sum(f.split == s for f in found) for s in ("train", "test")] == [1297, 500]
    assert all(int(f.label or -1) == load_digits().target[int(f.path.stem)] for f in found[::50])


def test_writing_the_digits_again_touches_nothing(digits_workspace: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (digits_workspace / "data").rglob("*")}
    sources.materialise(Digits(), digits_workspace)
    assert {p: p.stat().st_mtime_ns for p in (digits_workspace / "data").rglob("*")} == before


def test_an_altered_digit_is_an_error_that_names_it(tmp_path: Path) -> None:
    sources.materialise(Digits(), tmp_path)
    victim = sources.files(Digits(), tmp_path)[3].path
    victim.write_bytes(b"BM")
    with pytest.raises(UserError, match=rf"1 files differ, such as .*{victim.name}"):
        sources.materialise(Digits(), tmp_path)
    assert victim.read_bytes() == b"BM"


def test_a_killed_writer_leaves_no_half_set(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom ssl_tasks.data import drafts\nroot = Path(sys.argv[1])\n"
        "with drafts.whole(root / 'data/set', root / 'scratch') as draft:\n    (draft / 'a').write_text('a')\n    os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 9
    assert list((tmp_path / "data").iterdir()) == []


def test_of_two_writers_the_first_one_stays(tmp_path: Path) -> None:
    root, scratch = tmp_path / "set", tmp_path / "scratch"
    with drafts.whole(root, scratch) as slow:
        (slow / "who").write_text("slow")
        with drafts.whole(root, scratch) as fast:
            (fast / "who").write_text("fast")
    assert (root / "who").read_text() == "fast"
    assert list(scratch.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder belongs")
    with pytest.raises(UserError, match="cannot write"):
        sources.materialise(Digits(), tmp_path)


def test_a_folder_is_listed_sorted_with_any_nesting_and_suffix(tmp_path: Path) -> None:
    for name in ("b/deep/er/3.PNG", "a/2.Jpg", "a/1.jpeg", "0.bmp", "a/x.tif", "a/y.TIFF", "a/z.gif", "a/w.webp", ".hidden/4.png", "a/.5.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    found = sources.files(Folder(path="."), tmp_path)
    assert [f.path.relative_to(tmp_path).as_posix() for f in found] == [
        *("0.bmp", "a/1.jpeg", "a/2.Jpg", "a/w.webp", "a/x.tif", "a/y.TIFF", "a/z.gif", "b/deep/er/3.PNG"),
    ]
    assert {(f.label, f.split) for f in found} == {(None, "train")}


def test_labels_and_splits_come_from_folder_names(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "val/4.png"):
        picture(tmp_path / name)
    found = sources.files(Folder(path=".", labels=True, splits=True), tmp_path)
    assert [(f.split, f.label) for f in found] == [("test", "cat"), ("train", "cat"), ("train", "dog"), ("val", None)]


def test_holdout_moves_its_share_by_bytes_so_that_copies_stay_together() -> None:
    source = Folder(path=".", holdout=0.3)
    file = sources.Found("x.png", None, "train")
    hashes = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(2000)]
    held_out = [sources.split(source, file, h) == "test" for h in hashes]
    assert 0.27 < sum(held_out) / len(held_out) < 0.33
    assert held_out == [sources.split(source, file, h) == "test" for h in hashes]
    assert sources.split(source, file._replace(split="val"), hashes[held_out.index(True)]) == "val"
    assert sources.split(source, file, "") == "train"


def test_a_symlink_is_followed_inside_the_root_but_not_out_of_it_and_not_round(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", picture(tmp_path / "outside/secret.png")
    picture(root / "pool/1.png")
    (root / "out").symlink_to(outside.parent, target_is_directory=True)
    (root / "out.png").symlink_to(outside)
    (root / "in.png").symlink_to(root / "pool/1.png")
    (root / "again").symlink_to(root / "pool", target_is_directory=True)
    (root / "pool/up").symlink_to(root, target_is_directory=True)
    (root / "pool/self").symlink_to(root / "pool/self")
    found = sources.files(Folder(path="root"), tmp_path)
    assert [f.path.relative_to(root).as_posix() for f in found] == ["again/1.png", "in.png", "pool/1.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "does not exist"),
        (lambda root: root.write_text("x"), "is a file, not a folder"),
        (lambda root: root.mkdir(), "no images under"),
        (lambda root: (root.mkdir(), (root / "a.csv").touch(), (root / "README").touch()), r"it holds .csv, suffixless files: .* jpg jpeg png webp"),
    ],
)
def test_a_folder_without_images_is_a_user_error_of_one_line(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "pictures")
    for ask in (lambda: sources.files(Folder(path="pictures"), tmp_path), lambda: fingerprint(Folder(path="pictures"), tmp_path)):
        with pytest.raises(UserError, match=message) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_splits_without_a_train_folder_or_with_images_outside_any_are_user_errors(tmp_path: Path) -> None:
    picture(tmp_path / "training/1.png")
    with pytest.raises(UserError, match=r"no folder 'train' among its splits \(training\)"):
        sources.files(Folder(path=".", splits=True), tmp_path)
    picture(tmp_path / "0.png")
    with pytest.raises(UserError, match=r"0.png lies outside every split"):
        sources.files(Folder(path=".", splits=True), tmp_path)


def test_a_file_name_that_is_not_utf8_is_a_user_error(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).touch()
    with pytest.raises(UserError, match="not UTF-8"):
        sources.files(Folder(path="."), tmp_path)


def test_the_fingerprint_of_a_folder_changes_with_its_images_and_with_nothing_else(tmp_path: Path) -> None:
    source, image = Folder(path="."), picture(tmp_path / "a/1.png")
    first = fingerprint(source, tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert fingerprint(source, tmp_path) == first
    os.utime(image, ns=(1, 1))
    touched = fingerprint(source, tmp_path)
    picture(tmp_path / "a/2.png")
    assert len({first, touched, fingerprint(source, tmp_path)}) == 3


def test_the_fingerprint_of_a_planted_pool_follows_the_folder_that_it_is_made_from(tmp_path: Path) -> None:
    source, image = Planted(images=Folder(path=".")), picture(tmp_path / "train/a/1.png")
    first = fingerprint(source, tmp_path)
    os.utime(image, ns=(1, 1))
    assert fingerprint(source, tmp_path) != first
    assert fingerprint(Planted(), tmp_path) == fingerprint(Planted(), tmp_path / "elsewhere")


def test_the_fingerprint_imports_nothing_heavy() -> None:
    script = "import sys, ssl_tasks.data.fingerprint; print(sorted({'torch', 'sklearn', 'numpy', 'pyarrow', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert fingerprint(Digits(), Path("nowhere")) == fingerprint(Digits(), Path("elsewhere")) != fingerprint(Scenes(), Path("nowhere"))


def test_an_unknown_torchvision_set_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no downloadable set 'CIFAR1O'; did you mean 'CIFAR10'\?"):
        sources.materialise(Torchvision(name="CIFAR1O"), tmp_path)


def test_a_download_that_fails_names_the_set_and_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: nobody listens, with or without a network
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr("urllib.request._opener", None)  # urllib keeps the proxies that it saw first, for the rest of the process
    with pytest.raises(UserError, match=r"cannot download CIFAR10 .*this needs a network") as caught:
        sources.materialise(Torchvision(name="CIFAR10"), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_torchvision_set_that_lies_on_disk_becomes_labelled_png_files(tmp_path: Path) -> None:
    raw = tmp_path / ".sslflow/torchvision/FashionMNIST/raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    for part, count in (("train", 3), ("t10k", 2)):
        values = pixels[:3] if part == "train" else pixels[3:]
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, count, 28, 28) + values.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + bytes(range(count)))
    source = Torchvision(name="FashionMNIST")
    sources.materialise(source, tmp_path)
    found = sources.files(source, tmp_path)
    assert [(f.split, f.label) for f in found] == [
        *(("test", "T-shirt_top"), ("test", "Trouser"), ("train", "Pullover"), ("train", "T-shirt_top"), ("train", "Trouser")),
    ]
    with Image.open(found[2].path) as image:
        assert np.array_equal(np.asarray(image), pixels[2])
