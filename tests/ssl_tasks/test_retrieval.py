"""Retrieval against a ranking of every pair in float64, scikit-learn's average precision, and worlds whose answer is known."""

import numpy as np
import peak_memory
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from schemas.errors import UserError
from ssl_tasks.evaluate.grouping import ranks as ranking
from ssl_tasks.evaluate.grouping.ranks import Metric, ranks
from ssl_tasks.evaluate.grouping.retrieval import average_precision, retrieval

Features = NDArray[np.float32]


def scores(queries: Features, gallery: Features, metric: Metric) -> NDArray[np.float64]:
    q, g = queries.astype(np.float64), gallery.astype(np.float64)
    if metric == "euclidean":
        return -np.linalg.norm(q[:, None] - g[None], axis=2)
    return (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (g / np.linalg.norm(g, axis=1, keepdims=True)).T


def drawn(seed: int, count: int, classes: int, dim: int = 6) -> tuple[Features, NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=count)
    return (np.random.default_rng(9).normal(size=(classes, dim))[labels] + random.normal(size=(count, dim)) + 3).astype(np.float32), labels


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a small gallery takes many blocks."""
    for name, size in {"QUERIES": 7, "VECTORS": 13, "SCORES": 200}.items():
        monkeypatch.setattr(ranking, name, size)


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.usefixtures("small_blocks")
def test_every_query_has_the_precision_and_hits_of_a_ranking_of_all_pairs(metric: Metric, same: bool) -> None:
    gallery, of = drawn(0, 150, 5)
    queries, labels = (gallery, of) if same else drawn(1, 40, 6)  # the gallery has no image of the sixth class
    found = retrieval(queries, labels, gallery, of, [1, 5], metric, same)
    precisions, hits = [], []
    for q, nearness in enumerate(scores(queries, gallery, metric)):
        others = np.arange(len(gallery)) != q if same else np.ones(len(gallery), bool)
        answers = (of == labels[q])[others]
        if answers.any():
            precisions.append(average_precision_score(answers, nearness[others]))
            hits.append(answers[np.argsort(-nearness[others])[:5]].any())
    np.testing.assert_allclose(found.precisions, precisions)
    np.testing.assert_array_equal(found.hits[5], hits)
    assert len(found.precisions) == (150 if same else (labels < 5).sum()) > 0
    assert found.hits[1].mean() < found.hits[5].mean() <= 1


def test_answers_on_ranks_one_and_three_have_a_precision_of_five_sixths() -> None:
    assert average_precision(np.array([1, 3])) == pytest.approx(5 / 6)
    gallery = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]], np.float32)
    found = retrieval(gallery[:1], np.array([0]), gallery, np.array([0, 1, 0, 1]), [1])
    assert found.precisions.tolist() == pytest.approx([5 / 6])


def test_an_answer_that_is_found_last_of_all_still_counts() -> None:
    """A list cut after its first rank, divided by the answers on it, would say 1."""
    gallery = np.array([[1, 0], [1, 0.1], [1, 0.2], [-1, 0]], np.float32)
    assert retrieval(gallery[:1], np.array([0]), gallery, np.array([0, 1, 1, 0]), [1]).precisions.tolist() == [(1 + 2 / 4) / 2]


def test_far_apart_classes_are_retrieved_perfectly() -> None:
    centres, labels = np.eye(4, 8, dtype=np.float32) * 100, np.arange(60) % 4
    features = centres[labels] + np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    metrics: list[Metric] = ["cosine", "euclidean"]
    for metric in metrics:
        found = retrieval(features, labels, features, labels, [1], metric, same=True)
        assert found.precisions.min() == found.hits[1].min() == 1


def test_features_without_meaning_have_the_map_of_a_random_order() -> None:
    """Of R answers among N images in random order the expectation is (H + (N - H) (R - 1) / (N - 1)) / N, where H is the N-th harmonic number."""
    random = np.random.default_rng(0)
    count, answers = 100, 20
    harmonic = (1 / np.arange(1, count + 1)).sum()
    expected = ((answers - 1) / (count - 1) * (count - harmonic) + harmonic) / count
    labels = (np.arange(count) >= answers).astype(np.int64)
    gallery, queries = (random.normal(size=(n, 64)).astype(np.float32) for n in (count, 2000))
    found = retrieval(queries, np.zeros(2000, np.int64), gallery, labels, [1])
    sure = 5 * found.precisions.std() / 2000**0.5
    assert found.precisions.mean() == pytest.approx(expected, abs=sure)
    assert found.hits[1].mean() == pytest.approx(answers / count, abs=5 * 0.4 / 2000**0.5)


def test_of_equally_near_images_the_wrong_ones_come_first() -> None:
    """Were it not so, a collapsed model would owe its number to the order of the files."""
    gallery = np.ones((6, 3), np.float32)
    found = retrieval(gallery[:1], np.array([0]), gallery, np.array([0, 0, 1, 1, 1, 1]), [1, 5])
    assert found.precisions.tolist() == pytest.approx([(1 / 5 + 2 / 6) / 2])
    assert (found.hits[1].tolist(), found.hits[5].tolist()) == ([0], [1])


def test_distances_are_told_far_from_the_origin() -> None:
    gallery, of = drawn(0, 80, 4)
    near = retrieval(gallery, of, gallery, of, [1], "euclidean", same=True)
    far = retrieval(gallery + 1000, of, gallery + 1000, of, [1], "euclidean", same=True)
    assert np.abs(near.precisions - far.precisions).max() < 0.01


def test_without_any_answer_a_line_says_what_to_do() -> None:
    with pytest.raises(UserError, match="no test image has another image of its class in the gallery; set `gallery: train`"):
        retrieval(np.eye(3, dtype=np.float32), np.arange(3), np.eye(3, dtype=np.float32), np.arange(3), [1], same=True)


def test_the_scores_of_all_pairs_are_never_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    sort = ranking._ascending

    def watched(scores: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, scores.numel())
        return sort(scores)

    monkeypatch.setattr(ranking, "_ascending", watched)
    monkeypatch.setattr(ranking, "SCORES", 1_000_000)
    gallery, of = drawn(0, 60_000, 3, dim=4)
    queries, labels = drawn(1, 300, 3, dim=4)
    taken = peak_memory.taken(lambda: sum(1 for _ in ranks(queries, labels, gallery, of)))
    assert largest <= 1_000_000
    assert taken < 40_000  # kB; all pairs are 72 MB, and their ranks as much again
