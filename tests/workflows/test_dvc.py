"""The raw images against `data.dvc`, with real DVC repositories."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import UserError
from ssl_tasks.data import digits
from workflows.engine import dvc_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's table of what it has hashed lies outside the repository; not in this machine's for the tests."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A repository without git, with five images under DVC."""
    folder = tmp_path / "workspace"
    write_images(folder)
    add(folder)
    return folder


def write_images(folder: Path) -> None:
    (folder / "data/pets/cat").mkdir(parents=True)
    for i in range(5):
        (folder / f"data/pets/cat/{i}.png").write_bytes(bytes([i]) * 100)


def add(folder: Path, remote: Path | None = None) -> None:
    from dvc.repo import Repo

    if not (folder / ".dvc").exists():
        Repo.init(str(folder), no_scm=True).close()
    repo = Repo(str(folder))
    if remote:
        with repo.config.edit() as config:
            config["remote"] = {"store": {"url": str(remote)}}
            config["core"]["remote"] = "store"
    repo.close()
    repo = Repo(str(folder))
    repo.add(str(folder / "data"))
    if remote:
        repo.push()
    repo.close()


def images(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / "data").rglob("*.png")}


def hash_in(folder: Path) -> str:
    return dvc_data.version(folder)


def test_without_a_data_file_there_is_no_version_and_nothing_is_checked(tmp_path: Path) -> None:
    assert dvc_data.version(tmp_path) == ""
    assert dvc_data.check(tmp_path) == ""
    assert not dvc_data.covers(tmp_path, "data/digits")


def test_neither_version_nor_covers_imports_dvc(workspace: Path) -> None:
    code = """
import sys; from pathlib import Path; from workflows.engine import dvc_data
print(dvc_data.version(Path(sys.argv[1])), dvc_data.covers(Path(sys.argv[1]), "data/x"), "dvc" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, str(workspace)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [hash_in(workspace), "True", "False"]


@pytest.mark.parametrize(
    ("path", "covered"), [("data/pets", True), ("data", True), ("./data/../data/x", True), ("database", False), ("other", False), ("/data", False)]
)
def test_what_lies_under_the_output_is_covered(workspace: Path, path: str, covered: bool) -> None:
    assert dvc_data.covers(workspace, path) is covered
    assert dvc_data.covers(workspace, str(workspace / path)) is covered


def test_unchanged_data_pass_and_nothing_under_version_control_is_written(workspace: Path) -> None:
    before = {name: (workspace / name).stat().st_mtime_ns for name in ("data.dvc", ".dvc/config", ".dvcignore")}
    assert dvc_data.check(workspace) == hash_in(workspace)
    assert hash_in(workspace).endswith(".dir")
    assert {name: (workspace / name).stat().st_mtime_ns for name in before} == before


def test_a_touched_file_is_not_a_changed_one(workspace: Path) -> None:
    os.utime(workspace / "data/pets/cat/0.png", (1, 1))
    assert dvc_data.check(workspace) == hash_in(workspace)


def test_one_changed_byte_is_refused_with_both_hashes_and_the_two_ways_out(workspace: Path) -> None:
    named = hash_in(workspace)
    (workspace / "data/pets/cat/3.png").write_bytes(b"\x03" * 99 + b"x")
    with pytest.raises(UserError) as refused:
        dvc_data.check(workspace)
    message = str(refused.value)
    assert f"data.dvc names {named} (1 modified (such as data/pets/cat/3.png))" in message
    assert "go back by `dvc checkout --force data.dvc`, or keep the change by `dvc add data` and commit data.dvc" in message
    assert "\n" not in message
    add(workspace)
    assert hash_in(workspace) != named
    assert f"has the hash {hash_in(workspace)}," in message


@pytest.mark.parametrize(("change", "said"), [("extra", "1 added (such as data/pets/new.png)"), ("missing", "1 deleted (such as data/pets/cat/2.png)")])
def test_a_file_too_many_or_too_few_is_refused_by_name(workspace: Path, change: str, said: str) -> None:
    if change == "extra":
        (workspace / "data/pets/new.png").write_bytes(b"new")
    else:
        (workspace / "data/pets/cat/2.png").unlink()
    with pytest.raises(UserError) as refused:
        dvc_data.check(workspace)
    assert said in str(refused.value)


def test_the_advice_to_check_out_works(workspace: Path) -> None:
    before = images(workspace)
    (workspace / "data/pets/cat/3.png").write_bytes(b"changed")
    command = [sys.executable, "-m", "dvc", "checkout", "--force", "data.dvc"]
    subprocess.run(command, cwd=workspace, check=True, capture_output=True)
    assert images(workspace) == before
    assert dvc_data.check(workspace) == hash_in(workspace)


def test_missing_data_come_back_from_the_cache(workspace: Path) -> None:
    before = images(workspace)
    shutil.rmtree(workspace / "data")
    assert dvc_data.check(workspace) == hash_in(workspace)
    assert images(workspace) == before


def test_missing_data_are_pulled_from_the_remote(tmp_path: Path) -> None:
    workspace = tmp_path / "pulls"
    write_images(workspace)
    add(workspace, remote=tmp_path / "remote")
    before = images(workspace)
    shutil.rmtree(workspace / "data")
    shutil.rmtree(workspace / ".dvc/cache")
    assert dvc_data.check(workspace) == hash_in(workspace)
    assert images(workspace) == before


def test_missing_data_that_a_remote_does_not_have_are_refused_with_its_name(tmp_path: Path) -> None:
    workspace = tmp_path / "pulls"
    write_images(workspace)
    add(workspace, remote=tmp_path / "remote")
    for folder in (workspace / "data", workspace / ".dvc/cache", tmp_path / "remote"):
        shutil.rmtree(folder)
    with pytest.raises(UserError, match="data is missing and cannot be pulled from the DVC remote 'store'"):
        dvc_data.check(workspace)


def test_missing_data_that_are_nowhere_are_refused_with_what_to_do(workspace: Path) -> None:
    shutil.rmtree(workspace / "data")
    shutil.rmtree(workspace / ".dvc/cache")
    with pytest.raises(UserError, match=f"{hash_in(workspace)}. is not in DVC's cache; copy it there, or say where it can be pulled from: `dvc remote add"):
        dvc_data.check(workspace)


def test_data_that_were_generated_go_into_the_cache_once_they_are_checked(workspace: Path) -> None:
    shutil.rmtree(workspace / ".dvc/cache")
    before = images(workspace)
    dvc_data.check(workspace)
    assert all(p.stat().st_mode & stat.S_IWUSR for p in (workspace / "data").rglob("*.png")), "the images stay writable"
    shutil.rmtree(workspace / "data")
    dvc_data.check(workspace)
    assert images(workspace) == before


def test_missing_data_while_another_dvc_process_works_are_refused_with_that_reason(workspace: Path) -> None:
    from dvc.repo import Repo

    shutil.rmtree(workspace / "data")
    other = Repo(str(workspace))
    with other.lock, pytest.raises(UserError, match=r"another DVC process works in .*; wait until it is done"):
        dvc_data.check(workspace)
    other.close()


def test_a_mismatch_on_a_fresh_clone_is_refused_though_the_cache_knows_nothing(workspace: Path) -> None:
    shutil.rmtree(workspace / ".dvc/cache")
    (workspace / "data/pets/cat/3.png").write_bytes(b"changed")
    with pytest.raises(UserError, match=f"data.dvc names {hash_in(workspace)}; go back by moving data away"):
        dvc_data.check(workspace)


def test_a_data_file_without_a_dvc_folder_is_refused(workspace: Path) -> None:
    shutil.rmtree(workspace / ".dvc")
    with pytest.raises(UserError, match=r"has no \.dvc folder; run `dvc init`"):
        dvc_data.check(workspace)


@pytest.mark.parametrize("text", ["", "outs: []", "outs:\n- path: data", "<<<<<<< HEAD\nouts:", "[1, 2", "outs:\n- {md5: a, path: b}\n- {md5: c, path: d}"])
def test_a_data_file_that_says_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.dvc").write_text(text)
    with pytest.raises(UserError, match=r"data\.dvc is not what `dvc add` writes .*restore it with git"):
        dvc_data.version(tmp_path)


def test_two_processes_check_and_fetch_at_once(workspace: Path) -> None:
    before = images(workspace)
    shutil.rmtree(workspace / "data")
    code = "import sys; from pathlib import Path; from workflows.engine import dvc_data; print(dvc_data.check(Path(sys.argv[1])))"
    pair = [subprocess.Popen([sys.executable, "-c", code, str(workspace)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in pair:
        out, error = process.communicate(timeout=120)
        assert (out.strip().splitlines()[-1:], process.returncode) == ([hash_in(workspace)], 0), error
    assert images(workspace) == before


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this repository says of its data, and the digits as a fresh clone makes them."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("data.dvc", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    digits.write(folder / "data/digits", folder / "scratch")
    return folder


def test_the_digits_of_a_fresh_clone_are_those_that_data_dvc_names(clone: Path) -> None:
    assert dvc_data.covers(clone, "data/digits")
    assert dvc_data.check(clone) == hash_in(ROOT)


def test_this_repository_sends_no_telemetry_and_stages_nothing() -> None:
    from dvc.config import Config

    core = Config(str(ROOT / ".dvc"), validate=True)["core"]
    assert (core["analytics"], core["check_update"], core["autostage"]) == (False, False, False)
