"""Nearest neighbours against scikit-learn's brute force, and among a million without the memory for a million."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from peak_memory import at_most
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from ssl_tasks.evaluate import neighbours as nearest
from ssl_tasks.evaluate.frozen.knn import vote
from ssl_tasks.evaluate.neighbours import Rows, neighbours

Features = NDArray[np.float32]


def drawn(seed: int, count: int, dim: int = 16) -> Features:
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, dim)) * random.uniform(0.1, 10, (count, 1))).astype(np.float32)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a small bank takes many blocks, the last one of a single row."""
    monkeypatch.setattr(nearest, "_QUERIES", 13)
    monkeypatch.setattr(nearest, "_BANK", 71)


@pytest.mark.parametrize("k", [1, 20, 100, 427])
@pytest.mark.usefixtures("small_blocks")
def test_neighbours_are_those_of_scikit_learn(k: int) -> None:
    bank, queries = drawn(0, 6 * 71 + 1), drawn(1, 50)
    distances, rows = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(bank.astype(np.float64)).kneighbors(queries.astype(np.float64))
    similarities, found = neighbours(bank, queries, k)
    np.testing.assert_allclose(similarities, 1 - distances, atol=1e-6)
    np.testing.assert_array_equal(found, rows)


@pytest.mark.usefixtures("small_blocks")
def test_the_vote_of_neighbours_is_that_of_scikit_learn() -> None:
    bank, queries = drawn(0, 300), drawn(1, 60)
    labels = np.random.default_rng(2).integers(4, size=300)
    peer = KNeighborsClassifier(10, algorithm="brute", metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.07)).fit(bank, labels)
    similarities, rows = neighbours(bank, queries, 10)
    np.testing.assert_array_equal(vote(similarities, labels[rows], 0.07), peer.predict(queries))


def test_blocks_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = drawn(0, 500), drawn(1, 40)
    whole = neighbours(bank, queries, 30)
    monkeypatch.setattr(nearest, "_QUERIES", 7)
    monkeypatch.setattr(nearest, "_BANK", 64)
    similarities, rows = neighbours(bank, queries, 30)
    np.testing.assert_array_equal(rows, whole[1])
    np.testing.assert_allclose(similarities, whole[0], atol=1e-6)


@pytest.mark.usefixtures("small_blocks")
def test_equally_near_rows_are_found_once_each() -> None:
    """A collapsed model: everything is as near as everything else."""
    similarities, rows = neighbours(np.ones((200, 4), np.float32), np.ones((3, 4), np.float32), 150)
    assert similarities == pytest.approx(1)
    assert all(len(np.unique(row)) == 150 for row in rows)


def test_a_vector_without_direction_is_near_to_nothing() -> None:
    similarities, rows = neighbours(np.array([[0, 0], [1, 0], [-1, 0]], np.float32), np.array([[2, 0], [0, 0]], np.float32), 3)
    assert similarities.tolist() == [[1, 0, -1], [0, 0, 0]]
    assert rows[0].tolist() == [1, 0, 2]


def test_some_rows_of_features_are_read_as_if_they_were_all() -> None:
    features, some = drawn(0, 300), np.random.default_rng(1).permutation(300)[:120]
    view = Rows(features, some)
    assert (len(view), view.shape) == (120, (120, 16))
    similarities, rows = neighbours(view, Rows(features, some[:20]), 3)
    expected = neighbours(features[some], features[some[:20]], 3)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_array_equal(rows[:, 0], np.arange(20))
    np.testing.assert_array_equal(similarities, expected[0])


@pytest.mark.parametrize(("count", "megabytes"), [(500_000, 250), pytest.param(1_000_000, 300, marks=pytest.mark.slow)])
def test_a_million_features_of_384_dimensions_take_300_megabytes(tmp_path: Path, count: int, megabytes: int) -> None:
    """They are 1.5 GB; the file has holes where no feature is planted, and takes no room on the disk."""
    bank = np.lib.format.open_memmap(tmp_path / "bank.npy", "w+", np.float32, (count, 384))
    planted = np.random.default_rng(0).permutation(count)[:8]
    queries = drawn(1, 8, 384)
    bank[planted] = queries + 0.01
    with at_most(megabytes):
        with pytest.raises(MemoryError):
            np.ones(bank.shape, np.float32)
        similarities, rows = neighbours(Rows(bank, np.arange(count)), queries, 2)
    np.testing.assert_array_equal(rows[:, 0], planted)
    assert similarities[:, 0].min() > 0.99
