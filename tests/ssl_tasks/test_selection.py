"""Typical and diverse images: known answers, and brute force."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from concept_pools import concept_pool, concepts, planted
from test_curate import curated, events

from ssl_tasks.curate import diverse
from ssl_tasks.curate.diverse import farthest_first
from ssl_tasks.curate.typical import mean_distances
from ssl_tasks.data import manifest

LINE = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0], [10, 0], [4.2, 0]], np.float32)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return concept_pool(tmp_path, [12, 6, 4, 2])


def distances(points: np.ndarray) -> np.ndarray:
    x = points.astype(np.float64)
    return np.sqrt(((x[:, None] - x) ** 2).sum(-1))


def test_the_mean_distance_is_that_to_the_nearest_neighbours_in_the_cluster() -> None:
    points, of = planted([30, 20, 5, 1], noise=1.0)
    far = distances(points)
    np.fill_diagonal(far, np.inf)
    far[of[:, None] != of] = np.inf
    near = np.sort(far, axis=1)[:, :8]
    expected = [np.mean(row[np.isfinite(row)]) if np.isfinite(row).any() else np.inf for row in near]
    np.testing.assert_allclose(mean_distances(points, of.astype(np.int32), 8), expected, rtol=1e-4)


def test_the_most_typical_of_each_cluster_are_kept_in_turns(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [{"kind": "typical", "keep": 10, "clusters": 4}])
    kept = manifest.column(table, "kept")
    assert dataset.kept == 10
    assert np.bincount(concepts(table)[kept]).tolist() == [3, 3, 2, 2]  # two turns of four, then the two largest
    typicality = manifest.column(table, "1_typical.typicality")
    for concept in range(4):
        mine = concepts(table) == concept
        assert typicality[mine & kept].min() >= typicality[mine & ~kept].max(initial=0)


def test_typical_keeps_all_where_there_are_no_more(workspace: Path) -> None:
    dataset, _, job = curated(workspace, [{"kind": "typical", "keep": 24}])
    assert dataset.kept == 24
    notes = [event["message"] for event in events(job) if event["event"] == "note"]
    assert "1_typical: all 24 images kept: there are no more than `keep: 24`" in notes


def test_each_choice_is_the_farthest_from_those_before() -> None:
    chosen, far = farthest_first(LINE, 5)
    assert chosen.tolist() == [3, 4, 0, 5, 1]  # nearest to the mean, 3.37; then 7 away, 3, 1.2; then 1, and of two such the first
    np.testing.assert_allclose(far, [0, 0, 1, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("front", [1, 7, 4096])
def test_choices_are_those_of_the_plain_greedy_algorithm_however_few_points_are_looked_at(front: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diverse, "FRONT", front)
    points, _ = planted([150, 40, 10], noise=1.0)
    far = distances(points)
    expected = [int(((points - points.mean(0)) ** 2).sum(1).argmin())]
    while len(expected) < 30:
        expected.append(int(far[expected].min(0).argmax()))
    chosen, left = farthest_first(points, 30)
    assert chosen.tolist() == expected
    np.testing.assert_allclose(left, far[expected].min(0), atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_radius_is_at_most_twice_the_best_there_is(seed: int) -> None:
    points, _ = planted([14], noise=2.0, dim=3, seed=seed)
    far = distances(points)
    best = min(far[list(some)].min(0).max() for some in combinations(range(14), 4))
    assert best <= farthest_first(points, 4)[1].max() <= 2 * best


def test_equal_points_are_chosen_once_each() -> None:
    chosen, far = farthest_first(np.repeat(np.eye(2, dtype=np.float32), 3, axis=0), 6)
    assert sorted(chosen.tolist()) == list(range(6))
    assert far.max() == 0


def test_diverse_keeps_an_image_of_every_concept_and_says_in_which_order(workspace: Path) -> None:
    dataset, table, _ = curated(workspace, [{"kind": "diverse", "keep": 4}])
    kept = manifest.kept(table)
    assert sorted(concepts(kept).tolist()) == [0, 1, 2, 3]
    assert sorted(kept["1_diverse.order"].to_pylist()) == [0, 1, 2, 3]
    assert dataset.metrics["curate/1_diverse/radius"] == pytest.approx(manifest.column(table, "1_diverse.distance").max())
