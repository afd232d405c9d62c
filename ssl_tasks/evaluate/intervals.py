"""How sure a number is: 95% confidence intervals over seeds, over draws, and where there is one of these over the test images.

Several values, of seeds or of draws: Student's t over them, which holds for new trainings, or draws, on the same data. One value over
images: of items that are right or wrong Wilson's interval of a share (1927, https://doi.org/10.1080/01621459.1927.10502953), of
other items the percentile bootstrap of their mean (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13,
https://doi.org/10.1201/9780429246593). Both hold for other test images of the same kind, not for another training. The bootstrap of
right and wrong is a binomial, and misses near the ends: of 98% of 100 images its 95% cover 87%, Wilson's 95%.

Of a difference of shares of which no items are known, Newcombe's hybrid of Wilson's (1998, method 10,
https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C873::AID-SIM779%3E3.0.CO;2-I). Models that are judged on the same images err
together, so that it is rather too wide; `comparing.py` has what is better where items are known.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
MANY = 2_000
"""Unlike items from which on the bootstrap's quantiles are computed and not drawn: their mean is normal but for its skewness."""
_Z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_REPEATED = 16
_BLOCK = 1 << 22

Over = Literal["seeds", "draws", "images"]
Items = NDArray[np.floating]


class Interval(NamedTuple):
    """Ends of an interval, and what it is over."""

    low: float
    high: float
    over: Over


def over_seeds(values: Sequence[float], over: Over = "seeds") -> Interval | None:
    """Student's t interval of the mean of at least two values; None of fewer."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return Interval(mean - reach, mean + reach, over)


def over_images(share: float, n: int) -> Interval:
    """Wilson's interval of a share of n images."""
    square = _Z * _Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    reach = _Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return Interval(max(0.0, middle - reach), min(1.0, middle + reach), "images")


def over_items(items: Items) -> Interval:
    """The interval of the mean of items (N,): Wilson's where each is 0 or 1, else the bootstrap's. The same each time."""
    values = np.asarray(items, np.float64)
    if is_binary(values):
        return over_images(float(values.mean()), len(values))
    return Interval(*bootstrap(values), "images")


def is_binary(items: Items) -> bool:
    """Whether each item is right or wrong, 1 or 0."""
    return bool(((items == 0) | (items == 1)).all())


def bootstrap(items: Items, seed: int = 0) -> tuple[float, float]:
    """Ends of the percentile bootstrap's interval of the mean of items (N,).

    From `MANY` unlike items on the quantiles are those of Cornish and Fisher's expansion (1938, https://doi.org/10.2307/1400905) with the
    items' own variance and skewness: what the resamples' means tend to, to the order of 1 / N.
    """
    values, counts = np.unique(np.asarray(items, np.float64), return_counts=True)
    if len(values) >= MANY:
        return _expanded(items)
    means, generator = np.empty(RESAMPLES), np.random.default_rng(seed)
    if len(values) * _REPEATED <= len(items):
        means[:] = generator.multinomial(len(items), counts / len(items), size=RESAMPLES) @ values / len(items)
    else:
        pool = np.repeat(values, counts)
        step = max(1, _BLOCK // len(pool))
        for start in range(0, RESAMPLES, step):
            rows = min(step, RESAMPLES - start)
            means[start : start + rows] = pool[generator.integers(0, len(pool), (rows, len(pool)), dtype=np.int32)].mean(1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _expanded(items: Items) -> tuple[float, float]:
    centred = np.asarray(items, np.float64) - np.mean(items)
    deviation = math.sqrt(np.square(centred).mean())
    error = deviation / math.sqrt(len(items))
    shift = (_Z * _Z - 1) / 6 * float((centred**3).mean()) / deviation**3 / math.sqrt(len(items))
    mean = float(np.mean(items))
    return mean + error * (shift - _Z), mean + error * (shift + _Z)


def of_difference(first: float, n: int, second: float, m: int) -> Interval:
    """Newcombe's interval of a share of n images less one of m, as if the images of both were drawn independently."""
    a, b = over_images(first, n), over_images(second, m)
    difference = first - second
    low = difference - math.hypot(first - a.low, b.high - second)
    return Interval(low, difference + math.hypot(a.high - first, second - b.low), "images")
