"""How numbers and protocols are said to a reader."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.protocols import ProtocolSpec
from schemas.protocols.frozen import FewShot
from ssl_tasks.evaluate.metrics import METRICS
from ssl_tasks.evaluate.results import Row
from ssl_tasks.evaluate.wording import enumerated

MINUS, EN_DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def scale(metric: str) -> float:
    """What a value is multiplied by to be shown: shares and errors of a confidence are shown in percent."""
    return 100.0 if METRICS[metric].percent else 1.0


def number(value: float, metric: str) -> str:
    """A metric's value as it is shown."""
    return f"{value * scale(metric):.{METRICS[metric].decimals}f}"


def amount(row: Row) -> str:
    """A row's value: an accuracy in percent, a rank as it is."""
    return number(row.value, row.metric)


def spread(row: Row) -> str:
    """A row's spread in the unit of its value; empty without one."""
    return "" if row.spread is None else number(row.spread, row.metric)


def signed(value: float, decimals: int = 1) -> str:
    """One decimal, with its sign."""
    text = f"{abs(value):.{decimals}f}"
    return text if float(text) == 0 else ("+" if value > 0 else MINUS) + text


def big(number: float) -> str:
    """A count with three digits: 812, 176 k, 2.79 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 100 * size else f"{number / size:.0f} {unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3 min 20 s, 5 h 12 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def energy(joules: float) -> str:
    """Joules as 85 Wh or 1.2 kWh."""
    watt_hours = joules / 3600
    return f"{watt_hours / 1000:.3g} kWh" if watt_hours >= 1000 else f"{watt_hours:.3g} Wh"


def short(name: str, names: Sequence[str]) -> str:
    """A model's name in a figure: without the stage where its output alone tells it apart."""
    if name.startswith("random init ("):
        return "random " + short(name.removeprefix("random init (").removesuffix(")"), names)
    tail = name.rpartition(".")[2]
    return tail if sum(n.rpartition(".")[2] == tail for n in names) == 1 else name


def title(name: str, protocol: ProtocolSpec) -> str:
    """A protocol's name in a table's head."""
    if isinstance(protocol, FewShot):
        return f"{protocol.shots}-shot"
    return protocol.title + name.removeprefix(protocol.kind).replace("_", " ")


def column(title: str, metric: str) -> str:
    """The head of a column with one metric of a protocol of that title."""
    return title if METRICS[metric].main else f"{title} {METRICS[metric].title}"


def lead(rows: Sequence[Row], students: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> list[str]:
    """The result in words, a sentence a student: what it keeps of its teacher, and what it gains over training alone.

    Without a student: what the first model reaches.
    """
    found = {(row.model, row.measure): row for row in rows}
    scored = [m for m in titles if any(r.measure == m and r.metric == "accuracy" for r in rows)]
    told = [entry for entry in students if any(measure in entry["measures"] for measure in scored)]
    if not told:
        first = next((row for row in rows if row.measure == (scored or list(titles))[0]), None) if titles else None
        if first is None:
            return []
        if first.metric == "accuracy":
            return [f"{first.model} reaches {amount(first)}% in {titles[first.measure]}."]
        if first.metric == "effective_rank":
            return [f"{first.model} has an effective rank of {amount(first)} in {first.dim} dimensions."]
        return [f"{first.model}: {titles[first.measure]} {amount(first)}."]
    return [_sentence(entry, [m for m in scored if m in entry["measures"]], found, titles) for entry in told]


def _sentence(entry: Mapping[str, Any], scored: Sequence[str], found: Mapping[tuple[str, str], Row], titles: Mapping[str, str]) -> str:
    parts = entry["measures"][scored[0]]
    own, start = parts["distilled"]["mean"], f"On average over {entry['seeds']} seeds, " if entry["seeds"] > 1 else ""
    if "teacher" in parts:
        student, teacher = (found[entry["models"][part][0], scored[0]] for part in ("distilled", "teacher"))
        share = student.parameters / teacher.parameters
        named = enumerated(entry["models"]["teacher"])
        told = (
            f"{start}{entry['name']} reaches {round(own / parts['teacher']['mean'] * 100, 1):g}% of {named}'s {titles[scored[0]]} accuracy with "
            f"{share:.{int(share < 0.01)}%} of its parameters."
        )
    else:
        told = f"{start}{entry['name']} reaches {number(own, 'accuracy')}% in {titles[scored[0]]}."
    against = [
        f"{signed(entry['measures'][m]['distilled_minus_alone']['mean'] * 100)} {titles[m]}" for m in scored if "distilled_minus_alone" in entry["measures"][m]
    ]
    return told + (f" Against the same network trained alone, in points: {enumerated(against)}." if against else "")


def caveat(seed: int, queries: int, labelled: bool, seeds: int = 1, last: bool = True) -> str:
    """What a reader must know before comparing two numbers.

    Args:
        last: whether all models have the weights of their last epoch.
    """
    epoch = "Last epoch" if last else "Weights of different epochs"
    start = f"{epoch}, {f'up to {seeds} seeds a model' if seeds > 1 else f'one seed ({seed})'}"
    if not labelled:
        return f"{start}; no labels, so nothing here says how well classes are told apart."
    return f"{start}, {queries:,} test images: one image more or less is {100 / queries:.2g} points."


def held(images: int, held_out: bool) -> str:
    """Which images temperatures are fitted to, and what that does to them."""
    if held_out:
        return f"Temperatures are fitted to the {images:,} labelled images of the val split, which training leaves out."
    return (
        f"Temperatures are fitted to {images:,} labelled train images, a tenth of each class, as there is no val split: a model that was trained on "
        "them is surer and more often right there than elsewhere, so that its temperature errs towards cold."
    )
