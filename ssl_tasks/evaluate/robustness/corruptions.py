"""Common corruptions: Hendrycks, Dietterich, 2019, https://arxiv.org/abs/1903.12261, section 4.

A probe of clean train images judges test images that are corrupted on the fly. E_{c,s} is its error under corruption c in severity s:
CE_c = sum_s E_{c,s} / sum_s E^base_{c,s}, and mCE is their mean over the corruptions; relative mCE sums what each loses to its own clean error.
Shapes: n images, C corruptions, S severities.

Differs from the paper: the baseline is a model of the user's choice, or the encoder before any training, where the paper has AlexNet. See
`ssl_tasks.data.corruptions` for how the corruptions differ.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.artifacts import Checkpoint
from schemas.errors import UserError
from schemas.protocols.robustness import Corruptions
from ssl_tasks.data.corruptions import corrupted
from ssl_tasks.evaluate.findings import Finding, Number, Plate, Skipped
from ssl_tasks.evaluate.neighbours import Ints
from ssl_tasks.evaluate.robustness import corruption_figures as figures
from ssl_tasks.evaluate.robustness.corruption_errors import Errors, errors, fed, keys
from ssl_tasks.evaluate.sampling import drawn
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Corruptions, subject: Subject) -> Iterator[Finding]:
    world = subject.world
    rows = drawn(world.parts.queries, protocol.samples, world.seed)
    own = errors(protocol, subject, rows)
    yield _number("corrupted_error", own.corrupted.mean((0, 1)))
    yield from (_number(f"error_{kind}", each) for kind, each in zip(protocol.corruptions, own.corrupted.mean(1), strict=True))
    if base := _baseline(protocol, subject, rows):
        if (base.corrupted.mean((1, 2)) > 0).all():
            yield _number("mce", mce(own, base))
        if (base.corrupted.mean((1, 2)) > base.clean.mean()).all():
            yield _number("relative_mce", relative_mce(own, base))
    if subject.is_model:
        yield _table(protocol, subject, own)
    side = min(subject.size, subject.side)
    if ("corrupted", side) not in world.shared:
        world.shared["corrupted", side] = True
        yield _strip(protocol, subject, rows[:1])


def meaning(protocol: Corruptions) -> str:
    against = f"'{protocol.baseline}'" if protocol.baseline else "the encoder before any training, one for each network"
    return (
        f"Percent of up to {protocol.samples:,} test images that are wrong, each under {len(protocol.corruptions)} corruptions in severities "
        f"{', '.join(map(str, protocol.severities))}; {_PROBE[protocol.probe]}. mCE: the mean over the corruptions of the error over that of the baseline, "
        f"{against}, by the same probe: 100 is as bad. Relative mCE: of what is lost to the clean error. Either is left out where the baseline has "
        "nothing to divide by, or no such head. Corruptions are drawn here (frost too), so that numbers do not compare with those on ImageNet-C's files."
    )


_PROBE = {
    "linear": "told by a logistic regression on the features of clean train images",
    "knn": "told by the vote of the nearest clean train images",
    "classifier": "told by the model's own head",
}


def mce(own: Errors, base: Errors) -> NDArray[np.float64]:
    """Of each image what it adds to mCE, (n,), so that their mean is it; the baseline's errors are taken as they are."""
    shares: NDArray[np.float64] = (own.corrupted.sum(1) / base.corrupted.mean(2).sum(1)[:, None]).mean(0)
    return shares


def relative_mce(own: Errors, base: Errors) -> NDArray[np.float64]:
    """The same of relative mCE."""
    lost = (base.corrupted.mean(2) - base.clean.mean()).sum(1)
    shares: NDArray[np.float64] = ((own.corrupted - own.clean).sum(1) / lost[:, None]).mean(0)
    return shares


def _baseline(protocol: Corruptions, subject: Subject, rows: Ints) -> Errors | None:
    """The errors of what stands for 100; None where the encoder before any training has no such head, or its features say nothing."""
    world = subject.world
    if protocol.baseline is None:
        base = Subject("random", "random", subject.artifact, subject.config, world)
    else:
        artifact = world.artifact(protocol.baseline)
        assert isinstance(artifact, Checkpoint)
        base = Subject(protocol.baseline, "pretrained", artifact, artifact.encoder, world)
    try:
        return errors(protocol, base, rows)
    except Skipped as reason:
        if protocol.baseline is None:
            return None
        raise UserError(f"corruptions.baseline: '{protocol.baseline}' {reason}") from reason


def _number(metric: str, items: NDArray[np.float64]) -> Number:
    return Number(metric, [float(items.mean())], len(items), items)


def _table(protocol: Corruptions, subject: Subject, own: Errors) -> Plate:
    means = own.corrupted.mean(2)
    easiest, hardest = (protocol.corruptions[place].replace("_", " ") for place in (means.mean(1).argmin(), means.mean(1).argmax()))
    caption = (
        f"Percent of {len(own.clean):,} test images that {subject.name} gets wrong under each corruption; {_PROBE[protocol.probe]}. "
        f"{100 * own.clean.mean():.1f} of clean images, {100 * means.mean():.1f} on average of corrupted ones. Worst: {hardest}; best: {easiest}."
    )
    kinds, severities, clean = protocol.corruptions, protocol.severities, float(own.clean.mean())
    name = f"corruptions_{subject.name}"
    return Plate(name, "results", f"{subject.name} under corruption", caption, lambda theme: figures.table(means, clean, kinds, severities, theme))


def _strip(protocol: Corruptions, subject: Subject, rows: Ints) -> Plate:
    severity = sorted(protocol.severities)[len(protocol.severities) // 2]
    clean = fed(subject, next(subject.batches(rows)))
    changed = [corrupted(clean, kind, severity, keys(subject, rows), subject.world.seed) for kind in protocol.corruptions]
    pictures, titles = torch.cat([clean, *changed]).numpy(), ["clean", *protocol.corruptions]
    caption = f"A test image of {clean.shape[-1]} pixels a side, clean and under each corruption in severity {severity} of 5, as models are fed it."
    return Plate(f"corrupted_images_{subject.name}", "looks", "One image under every corruption", caption, lambda theme: figures.strip(pictures, titles, theme))
