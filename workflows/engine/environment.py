"""Facts worth recording of a run: code, versions, machine. Reads metadata only and imports none of the libraries that it names."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("sslflow", "torch", "timm", "prefect", "mlflow", "dvc")


def environment(workspace: Path) -> dict[str, str]:
    """Git commit of the workspace, versions of what makes the numbers, and the machine."""
    facts = {"python": platform.python_version(), "platform": platform.platform(terse=True), "cpus": str(os.cpu_count())}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    if gpus := gpu_names():
        facts["gpus"] = ", ".join(gpus)
    if commit := _git(workspace, "rev-parse", "HEAD"):
        facts["git_commit"] = commit + ("-dirty" if _git(workspace, "status", "--porcelain", "--untracked-files=no") else "")
    return facts


def gpu_names() -> list[str]:
    """Names of the NVIDIA GPUs of this machine that CUDA_VISIBLE_DEVICES leaves visible, in its order."""
    if not shutil.which("nvidia-smi"):
        return []
    done = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    names = done.stdout.splitlines() if done.returncode == 0 else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return names
    chosen = [int(i) for i in visible.split(",") if i.strip().isdigit()]
    return [names[i] for i in chosen if i < len(names)]


def _git(folder: Path, *arguments: str) -> str:
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
