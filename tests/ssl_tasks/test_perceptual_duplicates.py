"""Perceptual duplicates: components equal to those of all pairs by brute force, whatever the hashes look like; which image stands for them."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from test_curate import curated, raw, save, smooth, why

from ssl_tasks.curate import perceptual_duplicates
from ssl_tasks.curate.perceptual_duplicates import component_of, diameter


def flipped(hashes: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Each hash with up to so many bits turned."""
    for _ in range(most):
        hashes = hashes ^ (np.uint64(1) << random.integers(0, 64, len(hashes), np.uint64))
    return hashes


def worlds() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    uniform = random.integers(0, 2**64, 900, np.uint64)
    return {
        "unlike": uniform,
        "with copies": np.concatenate([uniform, flipped(uniform[:300], 3, random), uniform[:50]]),
        "one crowd": np.concatenate([uniform[:200], flipped(np.full(800, 12345, np.uint64), 9, random)]),
        "few bits in use": uniform & np.uint64(0xFFF0000000000007),
        "chains": np.bitwise_xor.accumulate(np.uint64(1) << random.integers(0, 64, 1000, np.uint64)),
        "equal": np.zeros(40, np.uint64),
        "a single one": uniform[:1],
    }


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 5, 8, 11, 16])
@pytest.mark.parametrize("world", worlds())
def test_components_are_those_of_all_pairs(world: str, distance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = worlds()[world]
    near = np.bitwise_count(hashes[:, None] ^ hashes) <= distance
    wanted = connected_components(coo_array(near), directed=False)[1]
    first = np.sort(np.unique(wanted, return_index=True)[1])
    numbered = np.searchsorted(first, np.array([np.flatnonzero(wanted == each)[0] for each in wanted]))
    assert np.array_equal(component_of(hashes, distance), numbered)
    monkeypatch.setattr(perceptual_duplicates, "OVERHEAD", 200)  # so that even a small world is cut into bands, and these again
    monkeypatch.setattr(perceptual_duplicates, "CROWD", 4)
    monkeypatch.setattr(perceptual_duplicates, "BLOCK", 1000)
    assert np.array_equal(component_of(hashes, distance), numbered)


def test_a_crowd_of_nearly_equal_hashes_is_no_quadratic_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 30,000 hashes there are 4.5e8 pairs; far fewer are compared though each has hundreds within 5 bits."""
    random, compared = np.random.default_rng(0), 0
    count = np.bitwise_count

    def counted(values: Any) -> Any:
        nonlocal compared
        compared += np.size(values)
        return count(values)

    hashes = random.integers(0, 2**18, 30_000, np.uint64)
    monkeypatch.setattr(np, "bitwise_count", counted)
    assert component_of(hashes, 5).max() == 0
    assert 30_000 < compared < 5e7


def test_the_diameter_is_the_widest_pair_and_of_many_hashes_at_least_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = flipped(np.zeros(500, np.uint64), 6, np.random.default_rng(0))
    widest = max(int(a ^ b).bit_count() for a, b in itertools.combinations(hashes.tolist(), 2))
    assert diameter(hashes) == widest
    monkeypatch.setattr(perceptual_duplicates, "EXACT", 10)
    assert widest / 2 <= diameter(hashes) <= widest
    assert diameter(np.array([7], np.uint64)) == 0


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Eight unlike pictures; 0 again larger, 1 again as JPEG, 2 again blurred, 3 again as it is; 4 mirrored."""
    pool = tmp_path / "pool"
    for seed in range(8):
        save(smooth(seed, 96), pool / f"{seed}.png")
    save(smooth(0, 192), pool / "0_large.png")
    save(smooth(1, 96), pool / "1_again.jpg", quality=60)
    small = Image.fromarray(smooth(2, 96)).resize((24, 24)).resize((96, 96))
    save(np.asarray(small), pool / "2_again_dull.png")
    save(smooth(2, 96), pool / "2_b.webp", quality=80)
    save(smooth(3, 96), pool / "3_again.bmp")
    save(smooth(4, 96)[:, ::-1], pool / "4_mirrored.png")
    raw(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["phash", "dhash"])
def test_copies_that_were_stored_otherwise_go_and_the_largest_then_sharpest_then_first_remains(workspace: Path, kind: str) -> None:
    dataset, table, _ = curated(workspace, ["integrity", {"kind": "perceptual_duplicates", "hash": kind, "distance": 8}])
    ids = {Path(uri).name: row for row, uri in enumerate(table["uri"].to_pylist())}
    decided = why(table)
    sharpness = dict(zip(ids, table["sharpness"].to_pylist(), strict=True))
    alike = {"2.png", "2_again_dull.png", "2_b.webp"}
    stands = {max(names, key=lambda name: sharpness[name]) for names in ({"1.png", "1_again.jpg"}, alike)}
    assert decided.keys() == {"0.png", "1.png", "1_again.jpg", *alike, "3_again.bmp"} - stands
    assert decided["0.png"] == ("perceptual_duplicates: alike by hash", ids["0_large.png"])
    assert decided["3_again.bmp"] == ("perceptual_duplicates: alike by hash", ids["3.png"])
    assert decided["2_again_dull.png"][1] == ids[(stands & alike).pop()]
    said = table["2_perceptual_duplicates.component"].to_pylist()
    assert len({said[ids[name]] for name in alike}) == 1
    assert len(set(said)) == dataset.kept == 9
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in table["2_perceptual_duplicates.hash"].to_pylist())
    metrics = {name.split("/")[-1]: value for name, value in dataset.metrics.items()}
    assert (metrics["components"], metrics["largest_component"]) == (4, 3)
    assert 0 <= metrics["largest_component_bits"] <= 16


def test_at_distance_nought_only_equal_hashes_are_joined(workspace: Path) -> None:
    _, table, _ = curated(workspace, [{"kind": "perceptual_duplicates", "distance": 0}])
    hashes, components = (table[f"1_perceptual_duplicates.{name}"].to_pylist() for name in ("hash", "component"))
    assert len(set(hashes)) == len(set(components)) == len(set(zip(hashes, components, strict=True)))
