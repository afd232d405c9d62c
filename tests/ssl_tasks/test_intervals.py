"""How often intervals hold what they are of: counted exactly, by simulation, and beside SciPy on the same items."""

import numpy as np
import pytest
from scipy import stats

from ssl_tasks.evaluate import intervals
from ssl_tasks.evaluate.intervals import bootstrap, over_images, over_items, over_seeds
from ssl_tasks.evaluate.results import Row


def row(values: list[float], items: np.ndarray | None = None, metric: str = "accuracy", n: int = 100) -> Row:
    return Row("m", "pretrained", "knn", "knn@1", metric, values, n, 10, 8, "id", items)


@pytest.mark.parametrize(("share", "n"), [(0.5, 30), (0.9, 100), (0.98, 100), (0.7, 500)])
def test_the_interval_of_a_share_covers_it_about_95_times_in_100(share: float, n: int) -> None:
    right = np.arange(n + 1)
    held = [over_items((np.arange(n) < k).astype(float))[:2] for k in right]
    covered = sum(stats.binom.pmf(k, n, share) for k, (low, high) in zip(right, held, strict=True) if low <= share <= high)
    assert 0.93 < covered < 0.97


def test_the_bootstrap_covers_the_mean_of_skewed_scores_about_95_times_in_100() -> None:
    generator = np.random.default_rng(0)
    worlds = [generator.beta(2, 1, 40) for _ in range(300)]
    covered = np.mean([low <= 2 / 3 <= high for low, high in map(bootstrap, worlds)])
    assert abs(covered - 0.95) < 0.04  # three standard deviations of 300 tries


@pytest.mark.parametrize(
    "items", [np.random.default_rng(1).beta(2, 5, 300), np.random.default_rng(2).integers(0, 6, 200) / 5], ids=["any_scores", "a_few_unlike_scores"]
)
def test_the_bootstrap_agrees_with_scipys_on_the_same_items(items: np.ndarray) -> None:
    by_scipy = stats.bootstrap((items,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(9)).confidence_interval
    assert bootstrap(items) == pytest.approx((by_scipy.low, by_scipy.high), abs=0.06 * (by_scipy.high - by_scipy.low))


def test_of_right_and_wrong_both_agree_with_scipys_bootstrap_away_from_the_ends() -> None:
    items = (np.arange(1000) < 700).astype(float)
    by_scipy = stats.bootstrap((items,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(9)).confidence_interval
    for low, high in (bootstrap(items), over_items(items)[:2]):
        assert (low, high) == pytest.approx((by_scipy.low, by_scipy.high), abs=0.003)


def test_of_many_items_the_quantiles_are_those_that_resampling_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    items = np.random.default_rng(3).exponential(1.0, 2500)
    expanded = bootstrap(items)
    monkeypatch.setattr(intervals, "MANY", 10**9)
    assert expanded == pytest.approx(bootstrap(items), abs=0.03 * (expanded[1] - expanded[0]))


def test_fifty_thousand_items_take_no_time() -> None:
    items = np.random.default_rng(4).random(50_000)
    low, high = bootstrap(items)
    assert low < items.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * items.std() / np.sqrt(50_000), rel=1e-3)


def test_all_right_is_not_certain_and_the_same_items_give_the_same_interval() -> None:
    assert over_items(np.ones(12)) == over_images(1.0, 12)
    assert over_items(np.ones(12)).low < 0.8
    items = np.random.default_rng(5).random(80)
    assert over_items(items) == over_items(items)


class TestRows:
    def test_a_mean_of_items_has_an_interval_over_images(self) -> None:
        found = row([0.7], (np.arange(100) < 70).astype(float)).as_json()
        assert (found["low"], found["high"], found["over"]) == over_images(0.7, 100)

    def test_a_share_without_items_has_one_too_and_other_numbers_have_none(self) -> None:
        assert row([0.7]).interval == over_images(0.7, 100)
        assert row([12.0], metric="effective_rank").as_json()["low"] is None

    def test_draws_have_an_interval_of_their_own_beside_that_over_images(self) -> None:
        values, items = [0.6, 0.7, 0.65], np.random.default_rng(0).integers(0, 4, 100) / 3
        both = row(values, items)
        assert both.interval is not None
        assert both.interval.over == "images"
        assert both.as_json()["over_draws"] == [both.over_draws.low, both.over_draws.high]  # type: ignore[union-attr]  # there are several
        assert both.over_draws == over_seeds(values, "draws")
        alone = row([30.0, 31.0, 33.0], metric="effective_rank")
        assert alone.interval == over_seeds(alone.values, "draws")

    def test_no_interval_leaves_what_is_possible(self) -> None:
        found = row([0.5, 1.0], metric="nmi").interval
        assert found is not None
        assert (found.low, found.high) == (0.0, 1.0)
