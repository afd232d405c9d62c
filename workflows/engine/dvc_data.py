"""Which bytes the raw images are: `data.dvc` names them, DVC checks them, fetches them and keeps a copy of them in its cache.

And a version of each manifest that a run makes of them: `manifests/PIPELINE/STAGE.parquet`, added as `dvc add` does, so that the
choice of images can be pushed, pulled, diffed and found in git's history as the images can.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import UserError

FILE = "data.dvc"
MANIFESTS = Path("manifests")
_NAMED = 4
_CACHED_UP_TO = 200_000_000
"""Bytes of a data set up to which a run keeps a copy in DVC's cache; `dvc add` does it for larger ones when a person asks for it."""


def version(workspace: Path) -> str:
    """The md5 that `data.dvc` names; empty where there is none. Does not import DVC.

    Raises:
        schemas.errors.UserError: if `data.dvc` cannot be understood.
    """
    return _stated(workspace).get("md5", "")


def covers(workspace: Path, path: str) -> bool:
    """Whether a path, relative to the workspace or absolute, lies in what `data.dvc` names. Does not import DVC."""
    stated = _stated(workspace)
    return bool(stated) and (workspace / path).resolve().is_relative_to((workspace / stated["path"]).resolve())


def check(workspace: Path) -> str:
    """Make sure that the raw images are those that `data.dvc` names, and fetch them if they are missing; their md5.

    Raises:
        schemas.errors.UserError: if they are others, or are missing and can be found nowhere.
    """
    named = version(workspace)
    if not named:
        return ""
    os.environ["DVC_NO_ANALYTICS"] = "1"
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        # Without git: nothing here concerns it, and the workspace may lie in none.
        with closing(Repo(str(workspace.resolve()), config={"core": {"no_scm": True}})) as repo:
            out = repo.stage.load_one(str(workspace.resolve() / FILE)).outs[0]
            if not out.exists:
                _fetch(repo, out)
            found = out.get_hash()
            if found != out.hash_info:
                raise UserError(_mismatch(repo, out, found.value or "of another kind"))
            _keep(repo, out)
    except NotDvcRepoError:
        raise UserError(f"{workspace / FILE} names data, but {workspace} has no .dvc folder; run `dvc init` (`dvc init --no-scm` outside git)") from None
    except DvcException as error:
        raise UserError(f"DVC cannot check {workspace / FILE}: {_line(error)}") from error
    return named


def keep_manifests(workspace: Path, made: Mapping[str, Path]) -> str:
    """Add to DVC the manifests that it has no version of yet; imports DVC only where there are some. Never fails, and never commits to git.

    Args:
        made: of each Dataset, such as `digits/clean`, the manifest in its artifact.

    Returns:
        A line for the person who watches; empty where all is as it was, or the workspace is no DVC repository.
    """
    if not (workspace / ".dvc").is_dir():
        return ""
    targets = {workspace / MANIFESTS / f"{name}.parquet": path for name, path in made.items()}
    try:
        changed = {target: path for target, path in targets.items() if not _has_version(target, path)}
        if changed:
            _add(workspace.resolve(), changed)
    except Exception as error:
        return f"took no version of the manifests, the next run tries again: {_reason(error)}"
    names = [str(target.relative_to(workspace)) for target in changed]
    told = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return f"made a version of {told}: commit the .dvc files, share them with `dvc push`" if names else ""


def _has_version(target: Path, made: Path) -> bool:
    """Whether a manifest lies there, and the `.dvc` file beside it names its bytes."""
    try:
        (out,) = yaml.safe_load(Path(f"{target}.dvc").read_text(encoding="utf-8"))["outs"]
        if not target.is_file() or target.stat().st_size != made.stat().st_size:
            return False
        with made.open("rb") as file:
            return str(out["md5"]) == hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, ValueError):
        return False


def _add(workspace: Path, changed: Mapping[Path, Path]) -> None:
    """Copy manifests to where they are versioned, and add them; as others may not in the meantime, DVC's lock is held throughout."""
    os.environ["DVC_NO_ANALYTICS"] = "1"
    from dvc.repo import Repo, lock_repo

    in_git = any((folder / ".git").exists() for folder in (workspace, *workspace.parents))
    with closing(Repo(str(workspace), config={} if in_git else {"core": {"no_scm": True}})) as repo, lock_repo(repo):
        for target, made in changed.items():
            draft = target.with_suffix(".draft")
            draft.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(made, draft)
                draft.replace(target)  # not written into: with `cache.type` symlink or hardlink it is the cache's own file
            finally:
                draft.unlink(missing_ok=True)
        repo.scm_context.quiet = True
        repo.add([str(target) for target in changed])


def _reason(error: Exception) -> str:
    from dvc.lock import LockError

    return "another DVC process works in the workspace" if isinstance(error, LockError) else _line(error)


def _stated(workspace: Path) -> dict[str, str]:
    """The output in `data.dvc`."""
    file = workspace / FILE
    if not file.exists():
        return {}
    try:
        (out,) = yaml.safe_load(file.read_text(encoding="utf-8"))["outs"]
        return {"md5": str(out["md5"]), "path": str(out["path"])}
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, ValueError):
        raise UserError(f"{file} is not what `dvc add` writes (one output with an md5); restore it with git, or write it again with `dvc add data`") from None


def _fetch(repo: Any, out: Any) -> None:
    """Get missing data from the cache, or else from the remote if there is one."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    file = str(Path(repo.root_dir) / FILE)
    try:
        repo.checkout(file)
    except LockError:
        raise UserError(f"another DVC process works in {repo.root_dir}; wait until it is done, then run again") from None
    except (DvcException, OSError):
        if not (remote := repo.config["core"].get("remote")):
            advice = f"copy it there, or say where it can be pulled from: `dvc remote add -d NAME ADDRESS`; `dvc add {out}` makes {FILE} name other data"
            raise UserError(f"{out} is missing, and the data that {FILE} names ({out.hash_info.value}) is not in DVC's cache; {advice}") from None
        try:
            repo.pull(file)
        except (DvcException, OSError) as error:
            raise UserError(f"{out} is missing and cannot be pulled from the DVC remote '{remote}': {_line(error)}") from error


def _mismatch(repo: Any, out: Any, found: str) -> str:
    """What differs, and the two ways out."""
    if not out.changed_cache():
        back = f"`dvc checkout --force {FILE}`"
    elif repo.config["core"].get("remote"):
        back = f"`dvc pull --force {FILE}`"
    else:
        back = f"moving {out} away (what is generated will be generated again)"
    return (
        f"{out} has the hash {found}, but {FILE} names {out.hash_info.value}{_changes(repo, out)}; "
        f"go back by {back}, or keep the change by `dvc add {out}` and commit {FILE}"
    )


def _changes(repo: Any, out: Any) -> str:
    """How many files differ and which is the first, where the cache still knows what they were."""
    if out.get_obj() is None:
        return ""
    changes = repo.data_status(targets=[str(out)], granular=True, untracked_files="no", head="HEAD")["uncommitted"]
    parts = [f"{len(files)} {kind} (such as {sorted(files)[0]})" for kind in ("added", "modified", "deleted") if (files := _files(changes.get(kind, [])))]
    return f" ({', '.join(parts)})" if parts else ""


def _files(paths: list[str]) -> list[str]:
    return [p for p in paths if not p.endswith("/")]


def _keep(repo: Any, out: Any) -> None:
    """Put data of moderate size into the cache, so that it can be checked out again. The files and `data.dvc` stay untouched."""
    from dvc.lock import LockError

    if (out.meta.size or _CACHED_UP_TO) < _CACHED_UP_TO and out.changed_cache():
        try:
            with repo.lock:
                out.commit(relink=False)
        except LockError:
            return  # another process is at it; the next run looks again


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
