"""Whether a difference is noise: tests beside SciPy's and beside counting every case, and how often they cry wolf."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from ssl_tasks.evaluate import comparing
from ssl_tasks.evaluate.comparing import compared, holm, mcnemar, of_items, of_pairs, of_seeds, permutation
from ssl_tasks.evaluate.results import Row


def row(values: list[float], items: np.ndarray | None = None, metric: str = "accuracy", n: int = 100) -> Row:
    return Row("m", "pretrained", "knn", "knn@1", metric, values, n, 10, 8, "id", items)


def right(*groups: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two models on items: how many items there are on which the first and the second are right (1) or wrong (0)."""
    first, second, counts = np.array(groups).T
    return np.repeat(first, counts).astype(float), np.repeat(second, counts).astype(float)


class TestMcNemar:
    @pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (9, 2), (1, 12)])
    def test_it_counts_every_way_in_which_disagreements_can_fall(self, wins: int, losses: int) -> None:
        ways = [sum(way) for way in product((0, 1), repeat=wins + losses)]
        assert mcnemar(wins, losses) == pytest.approx(np.mean([abs(2 * way - wins - losses) >= abs(wins - losses) for way in ways]))

    def test_items_on_which_both_are_right_do_not_matter_to_it(self) -> None:
        few, many = (of_items(*right((1, 1, both), (1, 0, 14), (0, 1, 4))) for both in (10, 1000))
        assert few.p == many.p == pytest.approx(stats.binomtest(14, 18).pvalue)
        assert not few.within_noise
        assert "McNemar" in few.how

    def test_the_interval_holds_the_true_difference_about_95_times_in_100(self) -> None:
        generator = np.random.default_rng(0)
        held = []
        for _ in range(2000):  # both right 80%, the first alone 12%, the second alone 5%
            wins, losses = generator.multinomial(150, [0.12, 0.05, 0.83])[:2]
            found = of_items(*right((1, 0, wins), (0, 1, losses), (1, 1, 150 - wins - losses)))
            held.append(found.low <= 0.07 <= found.high)
        assert 0.93 < np.mean(held) < 0.97

    def test_models_that_never_differ_are_within_noise_of_an_interval_that_is_not_empty(self) -> None:
        found = of_items(*right((1, 1, 40), (0, 0, 20)))
        assert (found.mean, found.p, found.within_noise) == (0, 1, True)
        assert found.low < 0 < found.high


class TestPermutation:
    def test_of_few_items_it_counts_every_flip(self) -> None:
        differences = np.array([0.3, -0.1, 0.25, 0.4, 0.0, 0.05, 0.2])
        sums = [abs(np.dot(signs, differences)) for signs in product((1, -1), repeat=7)]
        assert permutation(differences) == pytest.approx(np.mean(np.array(sums) >= differences.sum() - 1e-12))

    def test_it_agrees_with_scipys(self) -> None:
        generator = np.random.default_rng(0)
        first, second = generator.random(60), generator.random(60) - 0.1
        by_scipy = stats.permutation_test((first, second), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=5000, rng=generator)
        assert permutation(first - second) == pytest.approx(by_scipy.pvalue, abs=0.025)

    def test_of_many_items_it_is_what_flipping_finds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        differences = np.random.default_rng(1).normal(0.03, 1, 2500)
        normal = permutation(differences)
        monkeypatch.setattr(comparing, "MANY", 10**9)
        assert 0.02 < normal < 0.9
        assert normal == pytest.approx(permutation(differences), abs=0.02)

    def test_scores_that_are_no_classes_are_tested_by_it(self) -> None:
        generator = np.random.default_rng(2)
        first = generator.random(200)
        better = of_items(first + 0.05 + generator.normal(0, 0.05, 200), first)
        assert not better.within_noise
        assert better.low < 0.05 < better.high
        assert "permutation" in better.how


def test_without_a_difference_noise_is_said_in_about_95_of_100_cases() -> None:
    generator = np.random.default_rng(3)
    binary = np.mean([of_items(*(generator.random((2, 300)) < 0.8)).within_noise for _ in range(500)])
    scores = np.mean([permutation(generator.normal(size=40)) > comparing.NOISE for _ in range(150)])
    assert 0.93 < binary <= 1  # an exact test of whole numbers is careful
    assert 0.89 < scores < 0.995


class TestSeeds:
    def test_two_models_with_seeds_of_their_own_are_held_apart_by_welch(self) -> None:
        first, second = [0.81, 0.84, 0.80, 0.83], [0.70, 0.79, 0.74]
        found, by_scipy = of_seeds(first, second), stats.ttest_ind(first, second, equal_var=False)
        assert found.p == pytest.approx(by_scipy.pvalue)
        assert (found.low, found.high) == pytest.approx(tuple(by_scipy.confidence_interval(0.95)))
        assert found.over == "seeds"

    def test_seed_against_seed_is_paired(self) -> None:
        first, second = [0.81, 0.74, 0.90], [0.80, 0.72, 0.885]
        assert of_pairs(first, second, "seeds").p == pytest.approx(stats.ttest_rel(first, second).pvalue)
        assert of_seeds(first, second).within_noise
        assert not of_pairs(first, second, "seeds").within_noise

    def test_against_one_training_its_number_is_taken_as_it_is(self) -> None:
        found = of_seeds([0.9], [0.80, 0.84, 0.82])
        assert found.mean == pytest.approx(0.08)
        assert found.p == pytest.approx(stats.ttest_1samp([0.80, 0.84, 0.82], 0.9).pvalue)
        assert of_seeds([0.80, 0.84, 0.82], [0.9]).low == pytest.approx(-found.high)

    def test_seeds_that_give_the_same_number_say_so_without_a_warning(self) -> None:
        assert of_seeds([0.5, 0.5], [0.5, 0.5]).within_noise
        assert of_pairs([0.5, 0.6], [0.4, 0.5], "draws").p < 0.05


class TestRows:
    def test_items_come_first_then_draws_then_shares(self) -> None:
        first, second = right((1, 0, 9), (0, 1, 1), (1, 1, 90))
        assert "same 100 images" in compared(row([0.99], first), row([0.91], second)).how  # type: ignore[union-attr]  # there is one
        assert "3 draws" in compared(row([0.5, 0.6, 0.7]), row([0.4, 0.5, 0.6])).how  # type: ignore[union-attr]  # there is one
        shares = compared(row([0.9]), row([0.8]))
        assert shares is not None
        assert shares.p == pytest.approx(stats.fisher_exact([[90, 10], [80, 20]]).pvalue)
        assert compared(row([40.0], metric="effective_rank"), row([20.0], metric="effective_rank")) is None


def test_holm_raises_each_p_by_how_many_tests_are_left() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
