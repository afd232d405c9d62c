"""Spherical k-means on tensors: planted clusters are found, the same on every process, and none is left empty."""

import faiss
import numpy as np
import pytest
import torch
from formulas import random, unit
from torch import Tensor

from schemas.errors import UserError
from ssl_tasks.nn import kmeans as sphere
from ssl_tasks.nn.kmeans import assigned, check_enough, kmeans, updated
from ssl_tasks.nn.rounds import Rounds, balanced


def planted(sizes: list[int], noise: float = 0.1, dim: int = 16) -> tuple[Tensor, Tensor]:
    """Points of length 1 around random directions, and of which one each is."""
    generator = torch.Generator().manual_seed(len(sizes))
    of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    middles = torch.nn.functional.normalize(torch.randn(len(sizes), dim, generator=generator), dim=1)
    points = middles[of] + noise * torch.randn(len(of), dim, generator=generator) / dim**0.5
    return torch.nn.functional.normalize(points, dim=1), of


@pytest.mark.parametrize("seed", range(5))
def test_planted_clusters_are_found_whatever_their_sizes(seed: int) -> None:
    points, of = planted([40, 30, 20, 15, 10], noise=0.05)
    centroids, nearest = kmeans(points, 5, seed)
    assert len({*zip(nearest.tolist(), of.tolist(), strict=True)}) == 5
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(5))


def test_centroids_are_the_directions_of_their_clusters_and_points_at_the_nearest() -> None:
    points, _ = planted([40, 30, 20], noise=1.0)
    centroids, nearest = kmeans(points.double(), 6, seed=0, iterations=100)
    cosine = points.double().numpy() @ centroids.numpy().T
    assert np.array_equal(nearest.numpy(), cosine.argmax(axis=1))
    for cluster in range(6):
        np.testing.assert_allclose(centroids[cluster], unit(points.double()[nearest == cluster].sum(dim=0, keepdim=True))[0], atol=1e-12)


def test_the_global_random_state_is_left_alone_and_plays_no_part() -> None:
    points, _ = planted([30] * 6, noise=1.0)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        found.append(kmeans(points, 10, seed=3))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert not torch.equal(kmeans(points, 10, seed=4)[0], found[0][0])


def test_pieces_of_the_points_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = planted([30] * 6, noise=1.0)
    whole = kmeans(points.double(), 10, seed=0)
    monkeypatch.setattr(sphere, "NUMBERS", 70)
    torch.testing.assert_close(kmeans(points.double(), 10, seed=0), whole)


def test_points_are_as_near_to_their_centroids_as_those_of_faiss() -> None:
    points, _ = planted([100, 80, 60, 40, 30, 20, 10, 10], noise=1.0)
    peer = faiss.Kmeans(16, 12, niter=10, spherical=True, nredo=1, seed=1)
    peer.train(points.numpy())
    theirs = (points.numpy() @ peer.centroids.T).max(axis=1).mean()
    ours = np.mean([float(assigned(points, kmeans(points, 12, seed)[0])[1].mean()) for seed in range(5)])
    assert ours > theirs - 0.005


def test_an_empty_cluster_starts_again_from_the_point_that_is_farthest_from_its_centroid() -> None:
    points = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [0.0, 1.0]]), dim=1)
    centroids = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    nearest, cosine = assigned(points, centroids)
    assert nearest.tolist() == [0, 0, 0, 0]
    moved = updated(points, nearest, cosine, centroids)
    torch.testing.assert_close(moved[1], points[3])
    assert assigned(points, moved)[0].tolist() == [0, 0, 0, 1]


def test_no_cluster_of_unlike_points_is_empty() -> None:
    points = torch.from_numpy(unit(random(60, 4))).float()
    for seed in range(5):
        assert len(kmeans(points, 40, seed)[1].unique()) == 40


def test_equal_points_leave_clusters_empty_rather_than_fail() -> None:
    points = torch.eye(2, 8).repeat_interleave(5, dim=0)
    centroids, nearest = kmeans(points, 4, seed=0)
    assert centroids.isfinite().all()
    assert len(nearest.unique()) == 2


def test_as_many_clusters_as_images_are_refused() -> None:
    check_enough(41, 40, "method.clusters")
    with pytest.raises(UserError, match=r"^method\.clusters: 3000 clusters of 1500 images to train on: set it lower, such as to 75, or take more images$"):
        check_enough(1500, 3000, "method.clusters")


def test_a_round_is_over_when_as_many_images_were_seen_as_there_are() -> None:
    rounds, ended = Rounds(20), []
    for _ in range(5):
        rounds.count(8)
        ended.append(rounds.ended())
    assert ended == [False, False, True, False, False]
    assert int(rounds.done) == 1


def test_random_labels_are_used_alike() -> None:
    labels = balanced(heads=3, images=50, labels=12)
    for head in labels:
        assert {4, 5} == set(torch.bincount(head, minlength=12).tolist())
    assert not torch.equal(labels[0], labels[1])
