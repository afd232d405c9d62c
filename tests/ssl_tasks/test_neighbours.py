"""Near neighbours against brute force."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_tasks.curate.indexes import Index
from ssl_tasks.curate.neighbours import near, nearest

INDEXES: list[Index] = ["flat", "ivf", "hnsw", "ivfpq"]
SCRIPT = """
import hashlib, numpy as np
from test_neighbours import planted
from ssl_tasks.curate.neighbours import near
for index in ("flat", "ivf", "hnsw", "ivfpq"):
    found = near(planted(3000, 200, 32)[0], 0.9, 64, index)
    print(index, found.recall, hashlib.sha256(found.rows.tobytes() + found.others.tobytes() + found.cosines.tobytes()).hexdigest())
"""


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def planted(count: int, copies: int, dim: int) -> tuple[NDArray[np.float32], set[tuple[int, int]]]:
    """Vectors in 20 clusters, of which the last are copies of the first at cosines from 0.91 on; nothing else is as near."""
    random = np.random.default_rng(0)
    base = unit(random.normal(size=(20, dim))[random.integers(20, size=count - copies)] + random.normal(size=(count - copies, dim)))
    noise = random.normal(size=(copies, dim))
    noise = unit(noise - (noise * base[:copies]).sum(1, keepdims=True) * base[:copies])
    cosine = random.uniform(0.91, 1, (copies, 1))
    return unit(np.concatenate([base, cosine * base[:copies] + np.sqrt(1 - cosine**2) * noise])), {(i, count - copies + i) for i in range(copies)}


def brute(vectors: NDArray[np.float32], threshold: float) -> set[tuple[int, int]]:
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    return {(int(i), int(j)) for i, j in np.argwhere(np.triu(cosines >= threshold, 1))}


@pytest.mark.parametrize("index", INDEXES)
def test_every_index_finds_planted_pairs_and_no_others(index: Index) -> None:
    vectors, pairs = planted(3000, 200, 32)
    assert brute(vectors, 0.9) >= pairs
    found = near(vectors, 0.9, 64, index)
    have = set(zip(found.rows.tolist(), found.others.tolist(), strict=True))
    assert have <= brute(vectors, 0.9)
    assert len(have) >= 0.99 * len(brute(vectors, 0.9))
    assert (found.index, found.crowded) == (index, 0)
    assert found.judged == 0 if index == "flat" else found.judged > 30
    assert found.recall is not None
    assert found.recall >= 0.99
    exact = (vectors.astype(np.float64)[found.rows] * vectors[found.others]).sum(1)
    assert np.array_equal(found.cosines, np.minimum(exact, 1).astype(np.float32))


@pytest.mark.parametrize("index", INDEXES)
def test_between_two_sets_each_pair_has_one_of_both(index: Index) -> None:
    vectors, _ = planted(4000, 1500, 32)
    found = near(vectors[:2500], 0.9, 64, index, bank=vectors[2500:])
    wanted = {(i, j - 2500) for i, j in brute(vectors, 0.9) if i < 2500 <= j}
    have = set(zip(found.rows.tolist(), found.others.tolist(), strict=True))
    assert len(wanted) >= 1500
    assert have <= wanted
    assert len(have) >= 0.99 * len(wanted)


def test_the_same_pairs_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setenv("PYTHONPATH", "tests/ssl_tasks")
        said.append(subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout)
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 4


def test_of_a_crowd_only_the_nearest_neighbours_count_and_it_is_told() -> None:
    random = np.random.default_rng(0)
    crowd = unit(np.array([1.0, *[0] * 15]) + random.normal(0, 0.02, (40, 16)))
    found = near(crowd, 0.9, 3)
    cosines = crowd.astype(np.float64) @ crowd.T.astype(np.float64)
    np.fill_diagonal(cosines, -1)
    three = np.argsort(-cosines, axis=1, kind="stable")[:, :3]
    wanted = {(min(i, int(j)), max(i, int(j))) for i in range(40) for j in three[i]}
    assert set(zip(found.rows.tolist(), found.others.tolist(), strict=True)) == wanted
    assert found.crowded == 40


def test_equal_vectors_are_joined_to_the_first_of_them_and_zeros_to_nothing() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(6, 8)))
    vectors = np.concatenate([vectors[[0, 1, 0, 2, 0, 1]], np.zeros((2, 8), np.float32)])
    found = near(vectors, 1.0, 1)
    assert list(zip(found.rows.tolist(), found.others.tolist(), strict=True)) == [(0, 2), (0, 4), (1, 5)]
    assert found.cosines.tolist() == [1, 1, 1]


def test_nothing_is_near_to_nothing() -> None:
    for vectors in (np.zeros((0, 4), np.float32), np.eye(1, 4, dtype=np.float32), np.zeros((3, 4), np.float32)):
        found = near(vectors, 0.5, 64)
        assert (len(found.rows), len(found.others), len(found.cosines)) == (0, 0, 0)
    assert len(near(np.eye(3, 4, dtype=np.float32), 0.5, 64, bank=np.zeros((0, 4), np.float32)).rows) == 0


def test_auto_is_exact_for_few_and_by_cells_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = planted(1200, 100, 16)[0]
    assert near(vectors, 0.95, 8).index == "flat"
    monkeypatch.setattr("ssl_tasks.curate.indexes.EXACT", 1e6)
    assert near(vectors, 0.95, 8).index == "ivf"
    assert near(vectors[:900], 0.95, 8).index == "flat"


def test_the_nearest_come_in_order_and_equally_near_ones_by_place() -> None:
    bank = unit(np.random.default_rng(1).normal(size=(50, 6)))
    bank[7] = bank[3]
    places, cosines = nearest(bank[:10], bank, 5)
    exact = bank[:10].astype(np.float64) @ bank.T.astype(np.float64)
    assert np.array_equal(places, np.argsort(-exact.round(6), axis=1, kind="stable")[:, :5])
    assert places[3, :2].tolist() == [3, 7]
    assert np.allclose(cosines, np.take_along_axis(exact, places, 1))
