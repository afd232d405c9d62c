"""What keeps the architecture as it is drawn: import contracts, file lengths, and whose `workflows` is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "ssl_tasks", "workflows")
SOURCES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def test_there_are_sources_to_guard() -> None:
    assert len(SOURCES) > 40


def test_import_contracts_are_kept() -> None:
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_outgrows_its_idea(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    is_method = path.parents[1].name in ("methods", "distill") and path.parents[2].name == "ssl_tasks"
    limit = 150 if is_method else 300
    assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines, more than {limit}: is there a seam?"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_imported_are_ours(package: str) -> None:
    module = __import__(package)
    assert Path(module.__file__ or "").resolve().parent == ROOT / package


@pytest.mark.parametrize(
    ("library", "adapters"),
    [
        ("prefect", {"flow.py", "deploy.py", "deployed.py", "servers.py", "mapped.py"}),
        ("prefect_dask", {"mapped.py"}),
        ("distributed", {"mapped.py"}),
        ("mlflow", {"mlflow_store.py"}),
        ("dvc", {"dvc_data.py"}),
    ],
)
def test_one_adapter_a_third_party(library: str, adapters: set[str]) -> None:
    importing = {p.name for p in SOURCES if any(line.strip().startswith((f"import {library}", f"from {library}")) for line in p.read_text().splitlines())}
    assert importing
    assert importing <= adapters


LIGHT = """
import sys
from workflows.engine import cli, ledger, lineage, reuse, run, sizes
heavy = {"torch", "prefect", "mlflow", "numpy", "timm", "sklearn"} & set(sys.modules)
assert not heavy, heavy
"""


def test_planning_imports_no_orchestrator_and_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
