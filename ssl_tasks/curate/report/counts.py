"""The numbers of the report: the funnel, reasons, histograms before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssl_tasks.curate.report.story import Story, in_words

BASE = frozenset({"step", "considered", "removed", "kept", "cosine"})
"""What is said of a step elsewhere on the page."""
BINS = 32
WIDE = 16.0
"""Ratio of the largest to the smallest value above which a histogram's axis is logarithmic."""
CLASSES = 20
"""Classes that are shown one by one."""


@dataclass(frozen=True)
class Bar:
    """A line of the funnel: of what came in, shares in percent.

    Attributes:
        left: train images after the step.
        lost: removed from them; `moved`: set aside as another split.
        others: removed from other splits.
    """

    name: str
    step: str
    left: int
    lost: int = 0
    moved: int = 0
    others: int = 0


@dataclass(frozen=True)
class Histogram:
    """How a quantity is spread before and after, each an SVG path in a box of 100 x 100, highest where a bin holds most.

    Attributes:
        ticks: values at the left, in the middle and at the right.
    """

    title: str
    before: str
    after: str
    ticks: tuple[str, str, str]
    caption: str


@dataclass(frozen=True)
class Share:
    """One class: how many before and after, and the length of its bars in percent of the longest."""

    name: str
    before: int
    after: int
    wide_before: float
    wide_after: float


def funnel(story: Story) -> list[Bar]:
    """How many train images each step leaves, from those that came in."""
    left = int(story.came.sum())
    bars = [Bar("came in", "", left)]
    for number, (step, told) in enumerate(zip(story.steps, story.told, strict=True)):
        lost = int((story.came & (story.taken == number)).sum())
        bars.append(Bar(step.kind.replace("_", " "), told["step"], told["kept"], lost, left - lost - told["kept"], told["removed"] - lost))
        left = told["kept"]
    return bars


def chapters(story: Story) -> list[dict[str, Any]]:
    """What is told of each step besides pictures."""
    found = []
    for step, told in zip(story.steps, story.told, strict=True):
        ranked = sorted(told["reasons"].items(), key=lambda reason: (-reason[1], reason[0]))
        reasons = [(reason, count, percent(count, told["considered"])) for reason, count in ranked]
        meaning = (type(step).__doc__ or "").split("\n")[0].replace("`", "")
        facts = {name.replace("_", " ").replace("/", " "): said(value) for name, value in told.items() if name not in BASE and "." not in name}
        numbers = [(name, value) for name, value in facts.items() if value]
        found.append({**told, "numbers": numbers, "name": step.kind.replace("_", " "), "ranked": reasons, "meaning": meaning, "config": in_words(step)})
    return found


def histograms(story: Story) -> list[Histogram]:
    """Of every quantity that the manifest holds of the images, where they differ in it."""
    sizes = [_floats(story.after, name) for name in ("width", "height")]
    short, long = np.minimum(*sizes), np.maximum(*sizes)
    aspect = np.divide(long, short, out=np.full_like(long, np.nan), where=short > 0)
    quantities = {
        "Shorter side": (short, "pixels, as the file's header states them"),
        "Aspect": (aspect, "longer over shorter side"),
        "Sharpness": (_floats(story.after, "sharpness"), "variance of grey's Laplacian: low is blurred"),
        "Contrast": (_floats(story.after, "contrast"), "standard deviation of grey, of 0 to 255"),
        "File size": (_floats(story.after, "bytes") / 1000, "kB"),
    }
    drawn = [histogram(title, values[story.came], values[story.stays], caption) for title, (values, caption) in quantities.items()]
    return [each for each in drawn if each]


def histogram(title: str, before: NDArray[np.float64], after: NDArray[np.float64], caption: str) -> Histogram | None:
    """Shares of the images a bin; None where all have one value. Values beyond 99% of all lie in the outermost bins."""
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if not len(before) or not len(after):
        return None
    low, high = (float(v) for v in np.quantile(before, [0.005, 0.995]))
    if low == high:
        low, high = float(before.min()), float(before.max())
    if low == high:
        return None
    logarithmic = low > 0 and high / low > WIDE
    edges = np.geomspace(low, high, BINS + 1) if logarithmic else np.linspace(low, high, BINS + 1)
    shares = [np.histogram(np.clip(values, low, high), edges)[0] / len(values) for values in (before, after)]
    top = max(share.max() for share in shares)
    paths = [stepped(share / top) for share in shares]
    middle = (low * high) ** 0.5 if logarithmic else (low + high) / 2
    return Histogram(title, paths[0], paths[1], (short(low), short(middle), short(high)), caption + ("; logarithmic" if logarithmic else ""))


def classes(story: Story) -> tuple[list[Share], int]:
    """The largest classes and their bars, and how many more there are; none without labels."""
    return shares(story.after["label"], story, CLASSES)


def splits(story: Story) -> list[Share]:
    """Kept images of each split before and after; none where there is only one."""
    names = sorted({*pc.unique(story.before["split"]).to_pylist(), *pc.unique(story.after["split"]).to_pylist()}, key=lambda s: (s != "train", s))
    pairs = [[_kept_of(table, name) for table in (story.before, story.after)] for name in names]
    most = max((count for pair in pairs for count in pair), default=0) or 1
    return [Share(name, *pair, *(100 * count / most for count in pair)) for name, pair in zip(names, pairs, strict=True)] if len(names) > 1 else []


def shares(values: pa.ChunkedArray, story: Story, most: int) -> tuple[list[Share], int]:
    """Of the values of a column the most frequent: train images before and after, as shares of all that have a value."""
    encoded = values.combine_chunks().dictionary_encode()
    codes = np.asarray(encoded.indices.fill_null(-1))
    names = encoded.dictionary.to_pylist()
    counted = [np.bincount(codes[mask & (codes >= 0)], minlength=len(names)) for mask in (story.came, story.stays)]
    order = np.lexsort((np.arange(len(names)), -counted[0]))
    order = order[counted[0][order] > 0]
    parts = [count / max(count.sum(), 1) for count in counted]
    longest = max((float(part.max()) for part in parts if len(part)), default=0) or 1
    found = [
        Share(str(names[i]), int(counted[0][i]), int(counted[1][i]), 100 * parts[0][i] / longest, 100 * parts[1][i] / longest) for i in order[:most].tolist()
    ]
    return found, max(0, len(order) - most)


def said(value: Any) -> str:
    """One fact of a step; empty where it is nothing, or more than a word or number."""
    if isinstance(value, str):
        return value
    return short(value) if isinstance(value, int | float) and value else ""


def percent(part: float, whole: float) -> str:
    """A share in percent, with one decimal; what is there but rounds to nothing is said so."""
    value = 100 * part / whole if whole else 0.0
    return f"<{0.1:.1f}%" if 0 < value < 0.05 else f"{value:.1f}%"


def short(value: float) -> str:
    """A number for an axis: three digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def stepped(heights: Sequence[float] | NDArray[np.float64]) -> str:
    """A stepped area, each height of 0 to 1."""
    width = 100 / len(heights)
    return "M0 100" + "".join(f"V{100 - 98 * h:.4g}H{(i + 1) * width:.4g}" for i, h in enumerate(heights)) + "V100Z"


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = pc.cast(table[name], pa.float64()).fill_null(float("nan")).to_numpy()
    return values


def _kept_of(table: pa.Table, split: str) -> int:
    return int(pc.sum(pc.and_(table["kept"], pc.equal(table["split"], split))).as_py() or 0)
