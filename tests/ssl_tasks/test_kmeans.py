"""K-means: known clusters, exact assignments, less inertia than faiss, the same bytes with any number of threads."""

import faiss
import numpy as np
import pytest
from concept_pools import planted
from numpy.typing import NDArray

from schemas.curation import Resample
from ssl_tasks.curate import kmeans as lloyd
from ssl_tasks.curate.hierarchy import entropy, hierarchy, of_images, ranks
from ssl_tasks.curate.kmeans import Clusters, kmeans, refill
from ssl_tasks.curate.products import nearest, neighbours
from ssl_tasks.curate.relocate import relocate


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def all_squared(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float64]:
    return ((points.astype(np.float64)[:, None] - centroids.astype(np.float64)) ** 2).sum(-1)


@pytest.fixture
def few_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point is compared with 8 centroids, as where there are many."""
    monkeypatch.setattr(lloyd, "EXACT", 16)
    monkeypatch.setattr(lloyd, "REACH", 8)


def test_clusters_that_are_told_apart_are_found_whatever_their_sizes() -> None:
    points, of = planted([200, 50, 10, 4, 2, 2], noise=0.1)
    for seed in range(5):
        found = kmeans(points, 6, random(seed))
        assert sorted(found.sizes.tolist()) == [2, 2, 4, 10, 50, 200]
        assert len({*zip(found.nearest.tolist(), of.tolist(), strict=True)}) == 6


def test_centroids_are_the_means_of_their_clusters_once_nothing_moves() -> None:
    points, _ = planted([40, 30, 20])
    found = kmeans(points, 5, random(), iterations=100)
    for cluster in range(5):
        np.testing.assert_allclose(found.centroids[cluster], points[found.nearest == cluster].mean(0), atol=1e-6)


@pytest.mark.usefixtures("few_compared")
def test_every_point_ends_at_the_nearest_of_all_centroids_though_it_is_compared_with_few() -> None:
    points, _ = planted([30] * 20, noise=1.0)
    found = kmeans(points, 60, random())
    far = all_squared(points, found.centroids)
    np.testing.assert_allclose(far[np.arange(len(points)), found.nearest], far.min(1), atol=1e-5)
    np.testing.assert_allclose(found.squared, far.min(1), atol=1e-5)
    assert found.inertia == pytest.approx(far.min(1).sum(), rel=1e-5)


@pytest.mark.usefixtures("few_compared")
@pytest.mark.parametrize("noise", [0.4, 1.0])
def test_inertia_is_below_that_of_faiss(noise: float) -> None:
    sizes = (400 / np.arange(1, 41)).astype(int).tolist()
    points, _ = planted(sizes, noise=noise, dim=32)
    peer = faiss.Kmeans(32, 50, niter=25, seed=1)
    peer.train(points)
    theirs = float(peer.index.search(points, 1)[0].sum(dtype=np.float64))
    assert kmeans(points, 50, random()).inertia < theirs


@pytest.mark.usefixtures("few_compared")
def test_any_number_of_threads_gives_the_same_bytes() -> None:
    points, _ = planted([3000, 500, 100, 20], noise=1.0)
    threads = faiss.omp_get_max_threads()
    found = []
    for count in (1, 3):
        faiss.omp_set_num_threads(count)
        found.append(kmeans(points, 40, random()))
    faiss.omp_set_num_threads(threads)
    assert found[0].centroids.tobytes() == found[1].centroids.tobytes()
    assert found[0].nearest.tobytes() == found[1].nearest.tobytes()


def test_more_clusters_than_points_give_each_point_its_own() -> None:
    points, _ = planted([3, 3])
    found = kmeans(points, 10, random())
    assert found.sizes.tolist() == [1] * 6
    assert found.inertia < 1e-6


def test_equal_points_leave_clusters_empty_rather_than_fail() -> None:
    points = np.repeat(np.eye(2, 8, dtype=np.float32), 5, axis=0)
    found = kmeans(points, 4, random())
    assert sorted(found.sizes.tolist()) == [0, 0, 5, 5]


def test_an_empty_cluster_takes_the_point_farthest_from_its_own_centroid() -> None:
    near, squared = np.array([0, 0, 2, 2], np.int32), np.array([0.1, 0.7, 0.2, 0.0], np.float32)
    refill(near, squared, 4)
    assert near.tolist() == [0, 1, 3, 2]


def test_a_centroid_jumps_from_a_cluster_that_two_share_to_one_that_two_clusters_share() -> None:
    points = np.array([[0, 0], [0, 0.1], [0, 0.2], [0, 0.3], [5, 0], [5, 1], [9, 0], [9, 1]], np.float32)
    near = np.array([0, 0, 1, 1, 2, 2, 2, 2], np.int32)
    centroids = np.array([points[near == cluster].mean(0) for cluster in range(3)])
    relocate(points, centroids, near, ((points - centroids[near]) ** 2).sum(1))
    assert len({near[0], near[1], near[2], near[3]}) == 1
    assert near[4] == near[5] != near[6] == near[7]
    assert len(set(near.tolist())) == 3


def test_nearest_and_neighbours_equal_brute_force() -> None:
    points, _ = planted([300], noise=3.0)
    far = all_squared(points, points[:50])
    assert np.array_equal(nearest(points, points[:50])[0], far.argmin(1))
    assert np.array_equal(neighbours(points[:50], 7)[0], np.argsort(far[:50], axis=1)[:, :7])


def test_the_upper_level_clusters_the_centroids_of_the_lower() -> None:
    points, of = planted([40] * 12, noise=0.2, seed=1)
    levels = hierarchy(points, [12, 3], Resample(times=0), 0, 25)
    fine, coarse = of_images(levels)
    assert [len(level.centroids) for level in levels] == [12, 3]
    assert np.array_equal(coarse, levels[1].nearest[fine])
    assert np.array_equal(levels[1].nearest, all_squared(levels[0].centroids, levels[1].centroids).argmin(1))
    assert len({*zip(fine.tolist(), of.tolist(), strict=True)}) == 12


def test_resampling_spreads_centroids_more_evenly_over_what_the_points_cover() -> None:
    points, of = planted([2000, 100, 100, 100], noise=1.0, dim=4)

    def share(times: int) -> float:
        found = hierarchy(points, [40, 2], Resample(times=times), 0, 25)[0]
        return float(np.mean([np.bincount(of[found.nearest == c], minlength=4).argmax() == 0 for c in range(40)]))

    assert share(5) < share(0)


def test_ranks_count_places_within_a_cluster_and_ties_go_by_row() -> None:
    assert ranks(np.array([1, 0, 1, 1, 0]), np.array([0.5, 0.9, 0.5, 0.1, 0.2])).tolist() == [1, 1, 2, 0, 0]


def test_entropy_is_one_for_equal_sizes_and_nought_for_one_cluster_with_all() -> None:
    assert entropy(np.array([5, 5, 5])) == pytest.approx(1)
    assert entropy(np.array([9, 0, 0])) == 0
    assert entropy(np.array([3, 1])) == pytest.approx(-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)))


def test_clusters_know_their_sizes() -> None:
    assert Clusters(np.zeros((3, 1), np.float32), np.array([2, 0, 2], np.int32), np.zeros(3, np.float32)).sizes.tolist() == [1, 0, 2]
