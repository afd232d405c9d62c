"""Near duplicates: components, which image of each stays, and chains."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from test_curate import curated, raw, save, smooth, why

from ssl_tasks.curate import components
from ssl_tasks.curate.components import components_of, cut, greedily, lowest_cosines, members, numbered
from ssl_tasks.curate.deduplicate import component_of
from ssl_tasks.curate.neighbours import near

STEP = {"kind": "deduplicate", "threshold": 0.98}


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fan(degrees: list[float]) -> NDArray[np.float32]:
    """Vectors of a plane at these angles."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1).astype(np.float32)


def blend(share: float) -> np.ndarray:
    """A picture between two unlike ones."""
    return np.rint((1 - share) * smooth(50).astype(float) + share * smooth(51)).astype(np.uint8)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Ten unlike pictures; 01 twice as large under a later name; 02 sharper under a later name; 03 twice more as it is; one of equal pixels, twice."""
    pool = tmp_path / "pool/train"
    for i in range(10):
        save(smooth(i), pool / f"{i:02d}.png")
    save(smooth(1, 64), pool / "large.png")
    save(np.asarray(Image.fromarray(smooth(2)).resize((16, 16)).resize((32, 32))), pool / "02.png")
    save(smooth(2), pool / "sharp.png")
    save(smooth(3), pool / "same_1.png")
    save(smooth(3), pool / "same_2.png")
    save(np.full((32, 32), 90, np.uint8), pool / "flat_1.png")
    save(np.full((32, 32), 91, np.uint8), pool / "flat_2.png")
    raw(tmp_path, splits=True)
    return tmp_path


def test_the_largest_image_stays_then_the_sharpest_then_the_first(workspace: Path) -> None:
    _, table, _ = curated(workspace, [STEP])
    names = [Path(uri).name for uri in table["uri"].to_pylist()]
    gone = {Path(uri).name: names[of] for uri, (_, of) in why(table).items() if of is not None}
    assert gone == {"01.png": "large.png", "02.png": "sharp.png", "same_1.png": "03.png", "same_2.png": "03.png"}


def test_each_image_has_its_component_and_how_like_it_is_to_the_one_that_stays(workspace: Path) -> None:
    _, table, _ = curated(workspace, [STEP])
    component, similarity = (table[f"1_deduplicate.{name}"].to_pylist() for name in ("component", "similarity"))
    rows = zip(table["id"].to_pylist(), table["duplicate_of"].to_pylist(), strict=True)
    assert all(component[row] == component[of] for row, of in rows if of is not None)
    names = [Path(uri).name for uri in table["uri"].to_pylist()]
    assert [similarity[names.index(name)] for name in ("same_2.png", "05.png")] == pytest.approx([1, 1], abs=1e-6)
    assert 0.98 <= similarity[names.index("02.png")] < 1


def test_images_of_equal_pixels_have_no_near_duplicates_and_are_counted(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [STEP])
    assert not {"pool/train/flat_1.png", "pool/train/flat_2.png"} & {f"pool/{uri}" for uri in why(table)}
    assert dataset.metrics["curate/1_deduplicate/without_direction"] == 2


def test_the_report_has_sizes_diameters_and_the_largest_groups(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [STEP])
    (told,) = json.loads(dataset.path("report.json").read_text())["steps"]
    names = [Path(uri).name for uri in table["uri"].to_pylist()]
    assert told["sizes"] == {"2": 2, "3": 1}
    assert (told["index"], told["recall"], told["recall_pairs"], told["cosine"], told["largest_component"]) == ("flat", 1, 0, 0.98, 3)
    first = told["groups"][0]
    assert (first["size"], first["lowest"], names[first["kept"]]) == (3, 1, "03.png")
    assert {names[i] for i in first["ids"]} == {"03.png", "same_1.png", "same_2.png"}
    assert told["diameters"][0] == 0
    assert max(told["diameters"]) == pytest.approx(1 - told["widest_component"], abs=1e-4)


def test_a_chain_is_told_and_cut_where_all_must_be_near_to_all(tmp_path: Path) -> None:
    for step in range(11):
        save(blend(step / 10), tmp_path / f"pool/train/{step:02d}.png")
    raw(tmp_path, splits=True)
    single, _, _ = curated(tmp_path, [{**STEP, "threshold": 0.97}], key="single")
    (told,) = json.loads(single.path("report.json").read_text())["steps"]
    assert (told["kept"], told["largest_component"]) == (1, 11)
    assert told["widest_component"] < 0.5
    assert any("joins 11 images down to a cosine of" in note and "`linkage: complete`" in note for note in told["notes"])
    complete, _, _ = curated(tmp_path, [{**STEP, "threshold": 0.97, "linkage": "complete"}], key="complete")
    (told,) = json.loads(complete.path("report.json").read_text())["steps"]
    assert 3 <= told["kept"] <= 8
    assert told["widest_component"] >= 0.97
    assert not any("chain" in note for note in told["notes"])


def test_components_are_those_of_brute_force() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(120, 6)))
    joined = vectors.astype(np.float64) @ vectors.T.astype(np.float64) > 0.8
    label = np.arange(120)
    for _ in range(120):  # each takes the least label within reach, until nothing changes
        label = np.array([label[row].min() for row in joined])
    found, pairs = component_of(vectors, 0.8, neighbours=119)
    assert pairs == (joined.sum() - 120) // 2
    assert np.array_equal(found, numbered(label.astype(np.int32)))
    assert len(set(label)) < 110


def test_a_diameter_is_the_lowest_cosine_of_any_two(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = fan([0, 10, 20, 90, 95, 200])
    component = components_of(near(vectors, 0.98, 8), 6)
    groups = members(component)
    assert [rows.tolist() for rows in groups] == [[0, 1, 2], [3, 4]]
    assert np.allclose(lowest_cosines(vectors, groups, 0), np.cos(np.radians([20, 5])))
    monkeypatch.setattr(components, "WHOLE", 2)
    found = {round(float(lowest_cosines(vectors, groups, seed)[0]), 4) for seed in range(20)}  # of two of the three
    assert found == {round(float(np.cos(np.radians(degrees))), 4) for degrees in (10, 20)}


def test_complete_linkage_leaves_parts_in_which_any_two_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    vectors = unit(np.array([1.0, 0, 0]) + random.normal(0, 0.25, (200, 3)))
    component = components_of(near(vectors, 0.97, 199), 200)
    assert lowest_cosines(vectors, members(component), 0).min() < 0.9
    for whole in (4096, 10):  # by agglomeration, and greedily
        monkeypatch.setattr(components, "WHOLE", whole)
        parts = cut(vectors, component, 0.97)
        assert lowest_cosines(vectors, members(parts), 0).min() >= 0.97 - 1e-6
        assert 1 < len(set(parts)) < 60
        assert all(len(set(component[parts == part])) == 1 for part in set(parts))


def test_the_greedy_cut_begins_with_the_first_and_takes_the_nearest() -> None:
    vectors = fan([0, 12, -8, 4, 30])  # of 0: 4, then -8, which is 12 from 4; then 12 is 20 from -8
    assert greedily(vectors, float(np.cos(np.radians(13)))).tolist() == [0, 1, 0, 0, 2]
