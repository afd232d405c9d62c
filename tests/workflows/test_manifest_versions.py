"""Versions of manifests, with real DVC repositories, real git, and a folder as remote."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workflows.engine import dvc_data
from workflows.engine.cli import app
from workflows.engine.explain_images import difference

PIPELINE = """\
name: pets
stages:
  raw: {kind: ingest, source: {kind: scenes, count: 12, size: 32}}
  clean: {kind: curate, dataset: raw, steps: [{kind: integrity, min_contrast: CONTRAST}]}
"""


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's table of what it has hashed, git's identity and Prefect's state are those of the test."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@example.org")


def command(folder: Path, *arguments: str) -> str:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    return command(folder, "git", *arguments)


def dvc(folder: Path, *arguments: str) -> str:
    return command(folder, sys.executable, "-m", "dvc", *arguments)


def repository(folder: Path, *, in_git: bool = True, **core: str) -> Path:
    from dvc.repo import Repo

    folder.mkdir()
    if in_git:
        git(folder, "init", "--quiet")
    Repo.init(str(folder), no_scm=not in_git).close()
    repo = Repo(str(folder))
    with repo.config.edit() as config:
        config["remote"] = {"store": {"url": str(folder.parent / "remote")}}
        config["core"]["remote"] = "store"
        config["cache"] |= core
    repo.close()
    return folder


def made(folder: Path, text: str, name: str = "manifest.parquet") -> Path:
    path = folder / ".sslflow" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_workspace_without_dvc_is_left_alone_and_dvc_is_not_imported(tmp_path: Path) -> None:
    code = """
import sys; from pathlib import Path; from workflows.engine import dvc_data
print(repr(dvc_data.keep_manifests(Path(sys.argv[1]), {"pets/clean": Path(__file__)})), "dvc" in sys.modules)
""".replace("Path(__file__)", "Path('/none')")
    assert command(tmp_path, sys.executable, "-c", code, str(tmp_path)).split() == ["''", "False"]
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_is_added_as_dvc_add_does(tmp_path: Path) -> None:
    workspace = repository(tmp_path / "workspace")
    note = dvc_data.keep_manifests(workspace, {"pets/clean": made(workspace, "one"), "pets/clean[seed=0]": made(workspace, "two", "other.parquet")})
    assert note.startswith("made a version of manifests/pets/clean.parquet, manifests/pets/clean[seed=0].parquet: commit the .dvc files")
    assert (workspace / "manifests/pets/clean.parquet").read_text() == "one"
    git(workspace, "add", "manifests")
    assert git(workspace, "diff", "--cached", "--name-only", "--", "manifests").split() == [
        "manifests/pets/.gitignore",
        "manifests/pets/clean.parquet.dvc",
        "manifests/pets/clean[seed=0].parquet.dvc",
    ], "the manifests themselves are git-ignored, and nothing is committed"
    assert "No commits yet" in git(workspace, "status")


def test_what_dvc_has_already_is_not_added_again_and_imports_no_dvc(tmp_path: Path) -> None:
    workspace = repository(tmp_path / "workspace", in_git=False)
    path = made(workspace, "one")
    assert dvc_data.keep_manifests(workspace, {"pets/clean": path})
    code = """
import sys; from pathlib import Path; from workflows.engine import dvc_data
print(repr(dvc_data.keep_manifests(Path(sys.argv[1]), {"pets/clean": Path(sys.argv[2])})), "dvc" in sys.modules)
"""
    assert command(tmp_path, sys.executable, "-c", code, str(workspace), str(path)).split() == ["''", "False"]
    assert "manifests/pets/clean.parquet" in dvc_data.keep_manifests(workspace, {"pets/clean": made(workspace, "two")})
    assert (workspace / "manifests/pets/clean.parquet").read_text() == "two"


@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_a_new_version_never_writes_into_the_cache(tmp_path: Path, link: str) -> None:
    workspace = repository(tmp_path / "workspace", in_git=False, type=link)
    for text in ("one", "two"):
        assert dvc_data.keep_manifests(workspace, {"pets/clean": made(workspace, text)})
    assert sorted(p.read_text() for p in (workspace / ".dvc/cache/files").rglob("*") if p.is_file()) == ["one", "two"]


def test_while_another_dvc_process_works_one_line_says_so(tmp_path: Path) -> None:
    from dvc.repo import Repo

    workspace = repository(tmp_path / "workspace", in_git=False)
    other = Repo(str(workspace))
    with other.lock:
        note = dvc_data.keep_manifests(workspace, {"pets/clean": made(workspace, "one")})
    other.close()
    assert note == "took no version of the manifests, the next run tries again: another DVC process works in the workspace"
    assert not (workspace / "manifests/pets/clean.parquet").exists()
    assert dvc_data.keep_manifests(workspace, {"pets/clean": made(workspace, "one")}).startswith("made a version")


@pytest.mark.parametrize("fault", ["a file in the way", "a link to a full disk", "merge conflict", "git ignores it", "broken config"])
def test_what_stands_in_the_way_is_one_line(tmp_path: Path, fault: str) -> None:
    workspace = repository(tmp_path / "workspace")
    folder = workspace / "manifests/pets"
    match fault:
        case "a file in the way":
            (workspace / "manifests").write_text("a file")
        case "a link to a full disk":
            folder.mkdir(parents=True)
            (folder / "clean.draft").symlink_to("/dev/full")
        case "merge conflict":
            folder.mkdir(parents=True)
            (folder / "clean.parquet.dvc").write_text("<<<<<<< HEAD\nouts:")
        case "git ignores it":
            (workspace / ".gitignore").write_text("manifests\n")
        case "broken config":
            (workspace / ".dvc/config").write_text("[core\n")
    note = dvc_data.keep_manifests(workspace, {"pets/clean": made(workspace, "one")})
    assert note.startswith("took no version of the manifests, the next run tries again: ")
    assert "\n" not in note
    assert not list(workspace.rglob("*.draft"))


def run(workspace: Path, contrast: float) -> str:
    (workspace / "pets.yaml").write_text(PIPELINE.replace("CONTRAST", str(contrast)))
    return command(workspace, str(Path(sys.executable).with_name("sslflow")), "run", "pets.yaml")


@pytest.mark.slow
def test_runs_leave_versions_that_can_be_pushed_pulled_diffed_and_asked(tmp_path: Path) -> None:
    workspace = repository(tmp_path / "workspace")
    file = workspace / "manifests/pets/clean.parquet"
    assert "dvc: made a version of manifests/pets/raw.parquet, manifests/pets/clean.parquet" in run(workspace, 1.0)
    first = file.read_bytes()
    git(workspace, "add", "manifests", "pets.yaml", ".dvc")
    git(workspace, "commit", "--quiet", "-m", "one")
    dvc(workspace, "push")
    assert "dvc:" not in run(workspace, 1.0), "nothing to do"

    contrast = sorted(_contrasts(workspace))[6]
    assert "dvc: made a version of manifests/pets/clean.parquet:" in run(workspace, contrast)
    git(workspace, "commit", "--quiet", "-am", "two")
    dvc(workspace, "push")
    told = json.loads(dvc(workspace, "diff", "HEAD~1", "HEAD", "--json"))
    assert [entry["path"] for entry in told["modified"]] == ["manifests/pets/clean.parquet"]
    assert (told["added"], told["deleted"]) == ([], [])
    assert git(workspace, "log", "--format=%s", "--", "manifests/pets/clean.parquet.dvc").split() == ["two", "one"]

    second = file.read_bytes()
    shutil.rmtree(workspace / ".dvc/cache")
    file.unlink()
    dvc(workspace, "pull")
    assert file.read_bytes() == second != first

    git(workspace, "checkout", "--quiet", "HEAD~1", "--", "manifests")
    dvc(workspace, "pull", "--force")
    assert file.read_bytes() == first
    found = difference(workspace, "clean", "manifests/pets/clean.parquet")
    assert sum(group["count"] for group in found["dropped"]) == found["kept"][0] - found["kept"][1] > 0
    asked = CliRunner().invoke(app, ["show", "manifests/pets/clean.parquet", "--image", "0", "--workspace", str(workspace)])
    assert asked.stdout.startswith("in: ")


def _contrasts(workspace: Path) -> list[float]:
    """Standard deviation of grey of each train image."""
    import numpy as np
    import pyarrow.parquet as pq
    from PIL import Image

    rows = pq.read_table(workspace / "manifests/pets/raw.parquet").to_pylist()
    return [float(np.asarray(Image.open(workspace / row["uri"]).convert("L")).std()) for row in rows if row["split"] == "train"]


@pytest.mark.slow
def test_a_folder_that_is_read_only_harms_no_run(tmp_path: Path) -> None:
    workspace = repository(tmp_path / "workspace", in_git=False)
    (workspace / "manifests").write_text("in the way")
    said = run(workspace, 1.0)
    assert "pets: done" in said
    assert said.count("dvc: took no version") == 1
    assert os.listdir(workspace / ".sslflow/artifacts")
