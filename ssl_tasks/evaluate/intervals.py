"""How sure a number is: 95% confidence intervals over seeds, and where there is one seed over the test images.

Several seeds: Student's t over them, which holds for new trainings on the same data. One seed: Wilson's interval of a share
(1927, https://doi.org/10.1080/01621459.1927.10502953), and of the difference of two Newcombe's hybrid of theirs (1998, method 10,
https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C873::AID-SIM779%3E3.0.CO;2-I), which holds for other test images of the same kind,
not for another training. Models that are judged on the same images err together, so that Newcombe's is rather too wide.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

CONFIDENCE = 0.95
_Z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


class Interval(NamedTuple):
    """Ends of an interval, and what it is over."""

    low: float
    high: float
    over: Literal["seeds", "images"]


def over_seeds(values: Sequence[float]) -> Interval | None:
    """Student's t interval of the mean of at least two values; None of fewer."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return Interval(mean - reach, mean + reach, "seeds")


def over_images(share: float, n: int) -> Interval:
    """Wilson's interval of a share of n images."""
    square = _Z * _Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    reach = _Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return Interval(max(0.0, middle - reach), min(1.0, middle + reach), "images")


def of_difference(first: float, n: int, second: float, m: int) -> Interval:
    """Newcombe's interval of a share of n images less one of m, as if the images of both were drawn independently."""
    a, b = over_images(first, n), over_images(second, m)
    difference = first - second
    low = difference - math.hypot(first - a.low, b.high - second)
    return Interval(low, difference + math.hypot(a.high - first, second - b.low), "images")
