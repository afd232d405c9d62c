"""Copy detection: each measure against rankings worked out by hand and against brute force."""

import numpy as np
import pytest

from ssl_tasks.evaluate.grouping.average_precision import (
    average_precision,
    cosines,
    hash_likeness,
    mean_average_precision,
    micro_average_precision,
    normalised,
    recall_at_precision,
)

SCORES = np.array([[0.9, 0.8, 0.7], [0.5, 0.4, 0.3]])
FIRST = np.array([[True, False, False], [True, False, False]])
"""Each query ranks its match first, but the second query's match scores less than the first one's others."""


def test_positives_on_ranks_one_and_three_have_a_precision_of_five_sixths() -> None:
    assert average_precision(np.array([0.9, 0.5, 0.4, 0.1]), np.array([True, False, True, False]), 2) == pytest.approx(5 / 6)


def test_map_is_one_where_micro_ap_finds_that_scores_of_two_queries_do_not_compare() -> None:
    assert mean_average_precision(SCORES, FIRST) == 1.0
    assert micro_average_precision(SCORES, FIRST) == pytest.approx(0.75)


def test_a_pair_that_was_never_retrieved_counts_as_missed() -> None:
    assert micro_average_precision(SCORES, FIRST, positives=3) == pytest.approx(0.5)


def test_of_equal_scores_the_wrong_ones_come_first_in_whatever_order_they_are_given() -> None:
    scores = np.zeros(4)
    for place in range(4):
        assert average_precision(scores, np.arange(4) == place, 1) == 0.25


def test_a_query_without_a_match_is_left_out_of_map_and_a_distractor_of_micro_ap() -> None:
    scores, matches = np.vstack([SCORES, [[0.95, 0.1, 0.1]]]), np.vstack([FIRST, [[False] * 3]])
    assert mean_average_precision(scores, matches) == 1.0
    assert micro_average_precision(scores, matches) == pytest.approx((1 / 2 + 2 / 5) / 2)


def test_average_precision_is_that_of_counting_by_hand_on_many_random_rankings() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        scores, positive = random.permutation(20).astype(float), random.random(20) < 0.3
        if not positive.any():
            continue
        above = [((scores >= s) & positive).sum() / (scores >= s).sum() for s in scores[positive]]
        assert average_precision(scores, positive, int(positive.sum())) == pytest.approx(np.mean(above))


def test_recall_at_a_precision_is_the_best_of_all_thresholds() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        scores, matches = random.integers(0, 12, (6, 5)) / 10, random.random((6, 5)) < 0.4
        precise = [t for t in np.unique(scores) if matches[scores >= t].mean() >= 0.7 and matches[scores >= t].any()]
        recall, threshold = recall_at_precision(scores, matches, 0.7)
        assert recall == pytest.approx(max((matches[scores >= t].sum() / matches.sum() for t in precise), default=0.0))
        assert threshold == min(precise, default=float("inf"))


def test_a_query_that_is_like_everything_loses_by_normalisation() -> None:
    """The second query resembles all images by .3, which lifts its wrong pairs over the first query's match."""
    scores, matches = np.array([[0.5, 0.0], [0.9, 0.6]]), np.array([[True, False], [True, False]])
    background = np.array([[0.0, 0.1, 0.2, 0.1], [0.6, 0.5, 0.4, 0.1]])
    assert micro_average_precision(scores, matches) < 1
    better = normalised(scores, background, beta=1.0, nearest=3)
    np.testing.assert_allclose(better, [[0.5 - 0.4 / 3, -0.4 / 3], [0.4, 0.1]])
    assert micro_average_precision(better, matches) == 1.0
    np.testing.assert_array_equal(normalised(scores, background, beta=0.0), scores)


def test_hashes_are_alike_by_the_share_of_bits_that_agree() -> None:
    hashes = np.array([0, 1, 2**63 + 7, 2**64 - 1], np.uint64)
    expected = [[1 - bin(int(a) ^ int(b)).count("1") / 64 for b in hashes] for a in hashes]
    np.testing.assert_allclose(hash_likeness(hashes, hashes), expected)


def test_a_vector_without_direction_is_like_nothing() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(cosines(vectors, vectors), [[1, 0], [0, 0]], atol=1e-7)
