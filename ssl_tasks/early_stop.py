"""Early stop: when looks in a row show no improvement any more. A pure function of the looks so far, so that a resume finds the same."""

from collections.abc import Iterable, Sequence

from schemas.errors import UserError, did_you_mean
from schemas.monitoring import EarlyStop
from ssl_tasks.collapse import TRAINED, Looked


def stalled(looks: Sequence[Looked], rule: EarlyStop | None) -> str:
    """Why the training is to end by the last of the looks; empty where it is not.

    Args:
        looks: in order, each with its `progress`.
    """
    if rule is None:
        return ""
    seen = [(look["progress"], look[rule.metric]) for look in looks if rule.metric in look]
    best = 0
    for number, (_, value) in enumerate(seen):
        gain = value - seen[best][1]
        if (gain if rule.rises else -gain) > rule.min_delta:
            best = number
    if len(seen) - 1 - best < rule.patience:
        return ""
    progress, value = seen[best]
    return f"{rule.metric} was best, {value:.4g}, {rule.patience} looks ago, after {progress:.0%} of the training"


def check_metric(rule: EarlyStop | None, seen: Iterable[str]) -> None:
    """Refuse to wait for what is not measured.

    Args:
        seen: names of what a look at this method saw.

    Raises:
        UserError: where the rule names something else.
    """
    known = sorted({*seen, *TRAINED})
    if rule and rule.metric not in known:
        missing = "is measured only where every image has a label" if rule.metric == "knn" else "is not measured in this training"
        hint = did_you_mean(rule.metric.rpartition("/")[2], known) or f"there are: {', '.join(known)}"
        raise UserError(f"train.early_stop.metric: '{rule.metric}' {missing}; {hint}")
