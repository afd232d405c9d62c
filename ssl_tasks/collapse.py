"""Collapse: what the looks of the monitors say of a training, and which rules it breaks. Pure functions of the looks so far.

No single number sees every collapse, see `docs/monitors.md`; each threshold here stands between what healthy and collapsed
trainings were measured to show.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from schemas.errors import UserError, did_you_mean
from schemas.monitoring import Then
from schemas.training import Train

Looked = dict[str, float]
"""What one look saw; with its `progress`, whether the method `classifies`, and the `loss` and `gradient_norm` of the last step."""

EARLY = (0.025, 0.05, 0.075, 0.1)
"""Shares of the training after which the monitors look besides the evenly spread looks."""
SETTLED = 0.25
"""Share of the training before which only a teacher that fades is called a collapse: a network near its random start may look like one."""
PATIENCE = 3
"""Looks in a row that must show the same symptom."""
FEW_WORDS = 2.0
"""Perplexity of a tokenizer's words at or below which nearly every patch is told by the same one; on digits, mostly background, it is 20 and more."""
LOW_RANK = 4.0
"""Effective rank of an embedding, and a third of what it began with, below which it has collapsed along most dimensions."""
FEW_PROTOTYPES = 0.012
"""Share of the prototypes that images choose at or below which the others are dead: 3 of 256."""
NEAR = 1.0
"""Divergence in nats of a student from a teacher near uniform, below which it is near uniform too."""
TRAINED = ("loss", "gradient_norm")
"""What the training loop adds to a look."""
_SHARPEN = "lower method.teacher_temperature (SwAV: method.epsilon)"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        name: the same as long as it lasts.
        then: what the config wants done about it.
        what: is wrong, in a few words.
        why: the numbers, and for a collapse what to try.
    """

    name: str
    then: Then
    what: str
    why: str


def look_steps(steps: int, looks: int) -> set[int]:
    """Steps after which the monitors look: `looks` of them evenly spread, and the early ones."""
    return {max(1, round(steps * share)) for share in (*EARLY, *((i + 1) / looks for i in range(looks)))}


def findings(looks: Sequence[Looked], config: Train) -> list[Finding]:
    """What is wrong by the last of the looks: a collapse that lasts, then rules that it breaks."""
    name, why = _lasting(looks)
    found = [Finding(name, config.on_collapse, "the representation has collapsed", why)] if name else []
    last = looks[-1]
    for number, rule in enumerate(config.rules):
        in_force = rule.metric in last and 0 < last["progress"] >= rule.after
        if in_force and not rule.keeps(last[rule.metric]):
            told = f"{rule.metric} is {last[rule.metric]:.4g} after {last['progress']:.0%} of the training, must be {rule.bound}"
            found.append(Finding(f"rule {number}", rule.then, f"train.rules.{number} is broken", told))
    return found


def news(looks: Sequence[Looked], config: Train) -> list[Finding]:
    """The findings that the look before did not have."""
    known = {finding.name for finding in findings(looks[:-1], config)} if len(looks) > 1 else set()
    return [finding for finding in findings(looks, config) if finding.name not in known]


def is_well(looks: Sequence[Looked], config: Train) -> bool:
    """Whether the last look shows no symptom, however short, and keeps every rule that falls back, be it in force or not."""
    bounds = (rule.keeps(looks[-1][rule.metric]) for rule in config.rules if rule.then == "fall_back" and rule.metric in looks[-1])
    return not _symptom(looks[-1], looks[0], looks[-1])[0] and not _fades(looks[-PATIENCE:]) and all(bounds)


def falls_back(config: Train) -> bool:
    """Whether anything may end the training with an earlier checkpoint."""
    return config.on_collapse == "fall_back" or any(rule.then == "fall_back" for rule in config.rules)


def check_metrics(config: Train, seen: Iterable[str]) -> None:
    """Refuse rules on what is not measured.

    Args:
        seen: names of what a look at this method saw.

    Raises:
        UserError: where a rule names something else.
    """
    known = sorted({*seen, *TRAINED})
    for number, rule in enumerate(config.rules):
        if rule.metric not in known:
            missing = "is measured only where every image has a label" if rule.metric == "knn" else "is not measured in this training"
            hint = did_you_mean(rule.metric.rpartition("/")[2], known) or f"there are: {', '.join(known)}"
            raise UserError(f"train.rules.{number}.metric: '{rule.metric}' {missing}; {hint}")


def collapse(looks: Sequence[Looked]) -> str | None:
    """What ails the representation and what to try, or None where nothing that lasts is seen.

    A symptom counts once a quarter of the training is done and three looks in a row show it; a teacher that fades to uniform counts
    from the start.

    Of a method's own numbers these are known, where it has them: `embedding_std`, of what the loss sees, scaled so that 1 is
    healthy; `embedding_rank`; `teacher_entropy` and `mean_entropy`, of the teacher's distribution and of its mean over images, over
    ln K, with `teacher_student_kl`; `prototypes_used`; `word_perplexity`, of a tokenizer; `signal_gain`.

    Args:
        looks: in order, the first from before the training; each with its `progress` and the last `loss` besides what was seen.
    """
    return _lasting(looks)[1] or None


def _lasting(looks: Sequence[Looked]) -> tuple[str, str]:
    """Name and description of a symptom that lasts; empty where there is none."""
    if message := _fades(looks[-PATIENCE:]):
        return "fades", message
    settled = [look for look in looks if look["progress"] >= SETTLED][-PATIENCE:]
    symptoms = [_symptom(look, looks[0], settled[0]) for look in settled]
    lasts = len(settled) == PATIENCE and len({name for name, _ in symptoms}) == 1
    return symptoms[-1] if lasts else ("", "")


def _fades(looks: Sequence[Looked]) -> str:
    """Tells of a teacher on its way to the uniform distribution that no turn through the student brings back; empty where there is none.

    Near uniform, what a teacher tells of an image is multiplied by `signal_gain` (`measures.signal_gain`) with each turn: below 1 it
    fades. A slow start may begin below 1 and rise past it, so a gain that grows by half over the looks is waited for.
    """
    if len(looks) < PATIENCE or any("signal_gain" not in look or not look["progress"] for look in looks):
        return ""
    told = [_told(look) for look in looks]
    gains = [look["signal_gain"] for look in looks]
    falls = all(later < earlier for earlier, later in pairwise(told))
    uniform = looks[-1]["teacher_entropy"] > 0.9 and looks[-1]["teacher_student_kl"] < NEAR  # both, or the gain says nothing
    if not falls or max(gains) >= 1 or gains[-1] >= 1.5 * gains[0] or not uniform:
        return ""
    return (
        f"the teacher fades to the uniform distribution ({_numbers(looks[-1])}, signal gain {gains[-1]:.2f} where above 1 is needed): "
        f"{_SHARPEN}, make method.views milder, or take an encoder whose views of an image are more alike"
    )


def _symptom(look: Looked, first: Looked, before: Looked) -> tuple[str, str]:
    """Name of a symptom, and the line that tells of it; `first` is the look before the training, `before` the oldest one that counts."""
    relative = look["relative_std"]
    if relative < 1e-3 or (relative < 0.01 and relative < first["relative_std"] / 2):
        return "constant", (
            f"all images have the same features (std {look['std']:.3g}, {relative:.2g} of their size): "
            "lower train.optimizer.learning_rate, raise train.warmup, and give no term that keeps images apart the weight 0"
        )
    if look.get("embedding_std", 1.0) < 0.05 and look["embedding_std"] <= before["embedding_std"]:  # a small one that rises is a late start
        return "embedding", (
            f"all images have the same embedding (std {look['embedding_std']:.2g}, where 1 is healthy): "
            "give no term that keeps images apart, such as method.variance, a small weight or 0"
        )
    rank, whole = look.get("embedding_rank", math.inf), first.get("embedding_rank", math.inf)
    if rank < min(LOW_RANK, whole / 3) and rank <= before["embedding_rank"]:
        return "embedding rank", (
            f"the embedding has few dimensions left (effective rank {rank:.3g}, before the training {whole:.3g}): "
            "lower train.optimizer.learning_rate, raise train.batch_size, or give the term that decorrelates more weight"
        )
    on_a_line = look["centred_rank"] < 1.5 and look["centred_rank"] < 0.8 * first["centred_rank"]
    if on_a_line and not look.get("classifies"):  # what a classifier tells apart may rightly lie on a line: two classes do
        return "rank", (
            f"the features lie on a line (effective rank around their mean {look['centred_rank']:.3g}, before the training {first['centred_rank']:.3g}): "
            "lower train.optimizer.learning_rate, raise train.batch_size, or give the method's decorrelation more weight"
        )
    if look.get("prototypes_used", 1.0) <= FEW_PROTOTYPES:
        return "dead", (
            f"nearly all prototypes are dead: images choose {look['prototypes_used']:.2%} of those that they might: "
            "lower train.optimizer.learning_rate, or balance the prototypes (method.centering: sinkhorn, a queue, more method.iterations)"
        )
    if look.get("word_perplexity", math.inf) <= min(FEW_WORDS, 1.2 * before.get("word_perplexity", 0.0)):  # few that become more are a late start
        return "one word", (
            f"nearly all patches are told by the same word (perplexity {look['word_perplexity']:.2f}): "
            "of the tokenizer stage lower kl_weight where train/kl is near 0 and raise it elsewhere, or train longer"
        )
    return _of_teacher(look) if "teacher_entropy" in look else ("", "")


def _of_teacher(look: Looked) -> tuple[str, str]:
    """As `_symptom`, of a teacher that says the same of every image: what it tells of one is the entropy of the mean less its own."""
    if _told(look) > 0.003:
        return "", ""
    if look["teacher_entropy"] > 0.9:
        if look.get("signal_gain", 0.0) >= 1:  # so faint a signal may still teach, and it grows
            return "", ""
        return "uniform", f"the teacher gives every image the uniform distribution ({_numbers(look)}): {_SHARPEN}, or train longer"
    if look["mean_entropy"] < 0.1:
        return "one-hot", (
            f"the teacher puts every image on one prototype ({_numbers(look)}): "
            "lower method.center_momentum or raise method.teacher_temperature (SwAV: raise method.iterations or method.epsilon)"
        )
    return "same", (
        f"the teacher gives every image the same distribution ({_numbers(look)}): "
        "lower method.center_momentum (SwAV: raise method.iterations) or lower train.optimizer.learning_rate"
    )


def _told(look: Looked) -> float:
    """What the teacher's distribution tells of its image, over ln K."""
    return look["mean_entropy"] - look["teacher_entropy"]


def _numbers(look: Looked) -> str:
    return f"entropy {look['teacher_entropy']:.4f} of ln K, KL to the student {look['teacher_student_kl']:.2g}, loss {look['loss']:.4g}"
