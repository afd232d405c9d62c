"""How numbers and protocols are said to a reader."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.evaluations import KNN, FewShot, Linear, Protocol, Rank
from ssl_tasks.evaluate.results import Row

MINUS = "\N{MINUS SIGN}"


def amount(row: Row) -> str:
    """A row's value: an accuracy in percent, a rank as it is."""
    return f"{row.value * 100:.1f}" if row.metric == "accuracy" else f"{row.value:.1f}"


def spread(row: Row) -> str:
    """A row's spread in the unit of its value; empty without one."""
    if row.spread is None:
        return ""
    return f"{row.spread * (100 if row.metric == 'accuracy' else 1):.1f}"


def signed(value: float) -> str:
    """One decimal, with its sign."""
    text = f"{abs(value):.1f}"
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


def short(name: str, names: Sequence[str]) -> str:
    """A model's name in a figure: without the stage where its output alone tells it apart."""
    if name.startswith("random init ("):
        return "random " + short(name.removeprefix("random init (").removesuffix(")"), names)
    tail = name.rpartition(".")[2]
    return tail if sum(n.rpartition(".")[2] == tail for n in names) == 1 else name


def title(name: str, protocol: Protocol) -> str:
    """A protocol's name in a table's head."""
    extra = name.removeprefix(protocol.kind).replace("_", " ")
    match protocol:
        case KNN():
            return "k-NN" + extra
        case FewShot():
            return f"{protocol.shots}-shot"
        case Linear():
            return "linear" + extra
        case Rank():
            return "rank" + extra


def meaning(protocol: Protocol) -> str:
    """What a protocol does, with its settings."""
    match protocol:
        case KNN():
            return (
                f"Each test image takes the class that its {protocol.k} nearest train images vote for; a vote weighs "
                f"exp(cosine / {protocol.temperature:g}). Features are L2-normalised. Percent of test images that are right."
            )
        case FewShot():
            return (
                f"Each test image takes the class of the nearest (cosine) of {protocol.shots} labelled train images a class. Mean and "
                f"standard deviation over {protocol.draws} random draws; every model sees the same draws."
            )
        case Linear():
            return (
                f"Multinomial logistic regression (L-BFGS) on the features as they are: neither normalised nor standardised. The strength is "
                f"the best of {protocol.strengths} on a held-out tenth of the train images; then it is fitted to all of them."
            )
        case Rank():
            return (
                f"RankMe: exp of the entropy of the normalised singular values of up to {protocol.samples:,} train features; no labels. "
                "At most the feature's dimension, so compare only models of one width. A low rank tells a collapse; a high one promises nothing."
            )


def sampling_error(first: Row, second: Row) -> float:
    """Standard error of the difference of two accuracies, as if their test images were drawn independently (which overstates it)."""
    return math.sqrt(sum(row.value * (1 - row.value) / row.n for row in (first, second)))


def lead(rows: Sequence[Row], deltas: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> list[str]:
    """The result in words, a sentence a student: what it keeps of its teacher, and what it gains over training alone.

    Without a comparison: what the first model reaches.
    """
    found = {(row.model, row.protocol): row for row in rows}
    scored = [p for p in titles if any(r.protocol == p and r.metric == "accuracy" for r in rows)]
    if not deltas or not scored:
        first = found[rows[0].model, scored[0] if scored else rows[0].protocol]
        if first.metric == "accuracy":
            return [f"{first.model} reaches {amount(first)}% in {titles[first.protocol]}."]
        return [f"{first.model} has an effective rank of {amount(first)} in {first.dim} dimensions."]
    sentences = []
    for student in dict.fromkeys(d["student"] for d in deltas):
        entries = {d["protocol"]: d for d in deltas if d["student"] == student}
        own, teacher = (found[entries[scored[0]][who], scored[0]] for who in ("student", "teacher"))
        share = own.parameters / teacher.parameters
        against = enumerated([f"{signed(entries[p]['distilled_minus_alone'] * 100)} {titles[p]}" for p in scored])
        sentences.append(
            f"{student} reaches {round(own.value / teacher.value * 100, 1):g}% of {teacher.model}'s {titles[scored[0]]} accuracy with "
            f"{share:.{int(share < 0.01)}%} of its parameters. Against the same network trained alone, in points: {against}."
        )
    return sentences


def enumerated(parts: Sequence[str]) -> str:
    """One, two and three."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def caveat(seed: int, queries: int, labelled: bool) -> str:
    """What a reader must know before comparing two numbers."""
    start = f"Last epoch, one seed ({seed})"
    if not labelled:
        return f"{start}; no labels, so nothing here says how well classes are told apart."
    return f"{start}, {queries:,} test images: one image more or less is {100 / queries:.2g} points."
