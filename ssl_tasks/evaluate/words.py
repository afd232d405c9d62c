"""How numbers and protocols are said to a reader."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.evaluations import KNN, Accuracy, Calibration, Cost, FewShot, Fidelity, Linear, Protocol, Rank
from ssl_tasks.evaluate.results import Metric, Row

MINUS = "\N{MINUS SIGN}"


_PERCENT: tuple[Metric, ...] = ("accuracy", "agreement", "ece", "ece_scaled")


def scale(metric: Metric) -> float:
    """What a value is multiplied by to be shown: shares and errors of a confidence are shown in percent."""
    return 100.0 if metric in _PERCENT else 1.0


def number(value: float, metric: Metric) -> str:
    """A metric's value as it is shown: percent and a rank with one decimal, what counts in nats with two."""
    return f"{value * scale(metric):.{1 if metric in _PERCENT or metric == 'effective_rank' else 2}f}"


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
        case Accuracy() | Fidelity() | Calibration() | Cost():
            return protocol.kind + extra


def column(title: str, metric: Metric) -> str:
    """The head of a column with one metric of a protocol of that title."""
    named: dict[Metric, str] = {"ece": "ECE", "ece_scaled": "ECE scaled", "nll": "NLL", "nll_scaled": "NLL scaled", "kl": "KL"}
    kind, _, extra = title.partition(" ")
    return title if metric in ("accuracy", "effective_rank") else " ".join(filter(None, [named.get(metric, metric), extra if kind == "calibration" else ""]))


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
        case Accuracy():
            return (
                "The class that a classifier's own head names, of all the classes that it knows. Percent of test images that are right; "
                "an image of a class that it does not know counts as wrong."
            )
        case Fidelity():
            return (
                "What a student says beside what its teacher says of the same test images, labels aside: percent to which both give one class, and "
                "the mean KL(teacher || student) in nats, at temperature 1. The baseline is held against the same teacher."
            )
        case Calibration():
            return (
                f"ECE: distance of confidence and accuracy over {protocol.bins} bins of equal width, in percentage points; and the mean negative "
                "log-likelihood in nats. Scaled: after a temperature that is fitted by likelihood to held-out images, never to test images."
            )
        case Cost():
            return (
                "FLOPs are those of one image through convolutions, matrix products and attention; a multiply and an add are two. MB are "
                f"10\N{SUPERSCRIPT SIX} bytes of the weights' file. Latency is the median of up to {protocol.repeats} passes of one image after a warm-up, "
                f"throughput that of {protocol.batch} images at once; in float32, without reading or preparing images."
            )


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


def enumerated(parts: Sequence[str]) -> str:
    """One, two and three."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def caveat(seed: int, queries: int, labelled: bool, seeds: int = 1) -> str:
    """What a reader must know before comparing two numbers."""
    start = f"Last epoch, {f'up to {seeds} seeds a student' if seeds > 1 else f'one seed ({seed})'}"
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
