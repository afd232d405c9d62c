"""The pool whose faults are known has exactly those faults."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.errors import UserError
from schemas.sources import Planted
from ssl_tasks.data import planted, sources

SOURCE = Planted(originals=200, tail=10)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    sources.materialise(SOURCE, folder)
    return folder


def truth(workspace: Path, source: Planted = SOURCE) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((planted.place(source, workspace) / "truth.json").read_text())
    return found


def test_the_train_split_has_the_shares_that_were_asked_for(workspace: Path) -> None:
    counts = Counter(entry["what"] for entry in truth(workspace).values())
    total = sum(counts.values())
    assert counts["original"] == pytest.approx(200, abs=5)
    assert [counts[what] / total for what in ("copy", "junk", "leak")] == pytest.approx([0.6, 0.1, 0.05], abs=0.005)
    listed = sources.files(SOURCE, workspace)
    assert {"train": total, "test": 500} == Counter(found.split for found in listed)


def test_originals_have_a_long_tail_of_classes(workspace: Path) -> None:
    counts = Counter(Path(name).parent.name for name, entry in truth(workspace).items() if entry["what"] == "original")
    sizes = [counts[label] for label in sorted(counts)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] / sizes[-1] == pytest.approx(10, rel=0.2)


def test_the_seed_set_is_balanced_and_not_in_the_pool(workspace: Path) -> None:
    seeds = sources.files(SOURCE.model_copy(update={"part": "seeds"}), workspace)
    assert set(Counter(found.label for found in seeds).values()) == {5}
    used = {Path(entry["of"]).stem for entry in truth(workspace).values() if entry["of"]}
    assert not used & {Path(str(found.path)).stem for found in seeds}


def test_leaks_are_near_copies_of_test_images_and_copies_of_images_in_the_pool(workspace: Path) -> None:
    root = planted.place(SOURCE, workspace) / "pool"
    clean = {path.stem: path for path in (workspace / "data/digits").rglob("*.bmp")}
    originals = {entry["of"] for entry in truth(workspace).values() if entry["what"] == "original"}
    tests = {path.stem for path in (root / "test").rglob("*.png")}
    for name, entry in list(truth(workspace).items())[:100]:
        if entry["what"] in ("copy", "leak"):
            assert entry["of"] in originals if entry["what"] == "copy" else Path(entry["of"]).stem in tests
            copy, of = (np.asarray(Image.open(path).convert("L"), float).ravel() for path in (root / name, clean[Path(entry["of"]).stem]))
            assert 0.9 < np.corrcoef(copy, of)[0, 1] < 1


def test_the_same_config_gives_the_same_pixels_elsewhere(workspace: Path, tmp_path: Path) -> None:
    sources.materialise(SOURCE, tmp_path)
    here, there = (planted.place(SOURCE, each) / "pool/train" for each in (workspace, tmp_path))
    names = [path.relative_to(here) for path in sorted(here.rglob("*.png"))]
    assert all(np.array_equal(Image.open(here / name), Image.open(there / name)) for name in names)


def test_more_originals_than_there_are_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the largest class has too few; lower it"):
        sources.materialise(Planted(originals=1200, tail=50), tmp_path)
