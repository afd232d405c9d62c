"""Every pipeline that ships is valid."""

from pathlib import Path

import pytest

from schemas.load import load

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "workflows").rglob("*.yaml"))


def test_pipelines_ship() -> None:
    assert ROOT / "workflows/quickstart.yaml" in FILES


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.name)
def test_it_is_valid(file: Path) -> None:
    assert load(file).stages
