"""Whether one model is better than another or their difference is within noise: tests and intervals, as pure functions.

Two models on the same items are paired item by item. Right or wrong: McNemar's test in its exact form (1947,
https://doi.org/10.1007/BF02295996), which asks whether those that only one model gets right fall evenly on both, and Bonett and
Price's interval (2012, https://doi.org/10.3102/1076998611411915). Other scores: the permutation test that flips the sign of each
item's difference (Fisher, The Design of Experiments, 1935, section 21), and the percentile bootstrap of their mean. Several seeds: Welch's t (1947,
https://doi.org/10.1093/biomet/34.1-2.28), or the paired t where seed belongs to seed.

A difference is within noise where its test would find one as large in more than one of twenty cases without any difference.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from ssl_tasks.evaluate.intervals import CONFIDENCE, Items, Over, bootstrap, is_binary, of_difference, over_seeds
from ssl_tasks.evaluate.metrics import METRICS

NOISE = 1 - CONFIDENCE
FLIPS = 10_000
EXACT, MANY = 13, 2_000
"""Items up to which all flips of signs are counted, and from which on their sum is taken as normal."""
_Z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


class Judged(Protocol):
    """A number of a model as `results.Row` has it; see `findings.Number`."""

    @property
    def metric(self) -> str: ...

    @property
    def values(self) -> Sequence[float]: ...

    @property
    def n(self) -> int: ...

    @property
    def items(self) -> Items | None: ...


@dataclass(frozen=True)
class Difference:
    """First less second.

    Attributes:
        low, high: ends of its 95% interval.
        p: of the test that there is none.
        over: what would be drawn anew.
        how: the test, for a reader.
    """

    mean: float
    low: float
    high: float
    p: float
    over: Over
    how: str

    @property
    def within_noise(self) -> bool:
        """Whether nothing says that there is a difference."""
        return self.p > NOISE

    def as_json(self) -> dict[str, Any]:
        """As it stands in `results.json`."""
        return {**asdict(self), "within_noise": self.within_noise}


def compared(first: Judged, second: Judged) -> Difference | None:
    """Two models by one metric under the same protocol, split and draws; None where nothing tells how sure their difference is.

    On their items where both have as many, else over draws where both have as many, else, of shares, as if they had seen other images.
    """
    if first.items is not None and second.items is not None and first.items.shape == second.items.shape and len(first.items) > 1:
        return of_items(first.items, second.items)
    if len(first.values) == len(second.values) > 1:
        return of_pairs(first.values, second.values, "draws")
    if METRICS[first.metric].share:
        return of_shares(statistics.fmean(first.values), first.n, statistics.fmean(second.values), second.n)
    return None


def of_items(first: Items, second: Items) -> Difference:
    """Two models' scores of the same items, (N,) each in the same order."""
    both = np.stack([first, second]).astype(np.float64)
    difference, count = both[0] - both[1], both.shape[1]
    mean = float(difference.mean())
    if is_binary(both):
        wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
        return Difference(mean, *_bonett_price(wins, losses, count), mcnemar(wins, losses), "images", f"McNemar's exact test on the same {count:,} images")
    return Difference(mean, *bootstrap(difference), permutation(difference), "images", f"permutation test on the same {count:,} items")


def mcnemar(wins: int, losses: int) -> float:
    """The exact two-sided p of as uneven a division of the items on which two models disagree."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0


def _bonett_price(wins: int, losses: int, count: int) -> tuple[float, float]:
    won, lost = (wins + 1) / (count + 2), (losses + 1) / (count + 2)
    reach = _Z * math.sqrt((won + lost - (won - lost) ** 2) / (count + 2))
    return max(-1.0, won - lost - reach), min(1.0, won - lost + reach)


def permutation(differences: Items, seed: int = 0) -> float:
    """The two-sided p of as large a mean of differences (N,), were each as likely of the other sign.

    All flips are counted of up to `EXACT` differences, `FLIPS` of more; of `MANY` and more their sum is normal.
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    seen = abs(float(moved.sum()))
    if len(moved) >= MANY:
        return math.erfc(seen / math.sqrt(2 * float(np.square(moved).sum())))
    least = seen * (1 - 1e-12)
    if len(moved) <= EXACT:
        signs = 1.0 - 2 * ((np.arange(1 << len(moved))[:, None] >> np.arange(len(moved))) & 1)
        return float((np.abs(signs @ moved) >= least).mean())
    generator, as_large, step = np.random.default_rng(seed), 0, max(1, (1 << 22) // len(moved))
    for start in range(0, FLIPS, step):
        flipped = generator.integers(0, 2, (min(step, FLIPS - start), len(moved)), dtype=np.int8)
        as_large += int((np.abs((1.0 - 2 * flipped) @ moved) >= least).sum())
    return (as_large + 1) / (FLIPS + 1)


def of_pairs(first: Sequence[float], second: Sequence[float], over: Over) -> Difference:
    """Values that belong to each other one by one, at least two: of the same draws, or of a student and its own teacher under each seed."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    interval = over_seeds(differences)
    assert interval
    return Difference(statistics.fmean(differences), interval.low, interval.high, _t_test(differences), over, f"paired t-test over {len(differences)} {over}")


def of_seeds(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Values of two models under seeds of their own, at least two of one of them; the single training of the other is taken as it is."""
    mean = statistics.fmean(first) - statistics.fmean(second)
    if min(len(first), len(second)) == 1:
        several = first if len(first) > 1 else second
        alone, sign = (second[0], 1) if several is first else (first[0], -1)
        differences = [sign * (value - alone) for value in several]
        interval = over_seeds(differences)
        assert interval
        return Difference(mean, interval.low, interval.high, _t_test(differences), "seeds", f"t-test over {len(several)} seeds against one training")
    how = f"Welch's t-test over {len(first)} and {len(second)} seeds"
    if statistics.pvariance(first) + statistics.pvariance(second) == 0:
        return Difference(mean, mean, mean, float(mean == 0), "seeds", how)
    from scipy.stats import t

    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    error, freedom = math.sqrt(sum(parts)), sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True))
    reach = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Difference(mean, mean - reach, mean + reach, float(2 * t.sf(abs(mean) / error, freedom)), "seeds", how)


def of_shares(first: float, n: int, second: float, m: int) -> Difference:
    """Shares of n and of m images, as if the images of both were drawn independently."""
    from scipy.stats import fisher_exact

    right = round(first * n), round(second * m)
    p = float(fisher_exact([[right[0], n - right[0]], [right[1], m - right[1]]]).pvalue)
    interval = of_difference(first, n, second, m)
    return Difference(first - second, interval.low, interval.high, p, "images", "Fisher's exact test, as if on other images")


def _t_test(differences: Sequence[float]) -> float:
    """The two-sided p of Student's t of a mean of 0."""
    if statistics.pvariance(differences) == 0:
        return float(statistics.fmean(differences) == 0)
    from scipy.stats import t

    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return float(2 * t.sf(abs(statistics.fmean(differences)) / error, len(differences) - 1))


def holm(ps: Sequence[float]) -> list[float]:
    """The p of each of several tests, raised so that any is wrongly below a limit no more often than one test would be.

    Holm, A simple sequentially rejective multiple test procedure, 1979, https://www.jstor.org/stable/4615733
    """
    raised, least = [1.0] * len(ps), 0.0
    for place, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        least = max(least, min(1.0, (len(ps) - place) * ps[i]))
        raised[i] = least
    return raised
