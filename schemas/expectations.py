"""Expectations: what numbers an evaluation must reach, or its stage fails. `knn: ">= 0.85"`, `teacher/knn.top1: ">= 0.9"`."""

import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from schemas.errors import did_you_mean
from schemas.naming import group

OPERATORS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_BOUND = re.compile(r"(>=|<=|>|<) *([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")
_ALIASES = {"top1": "accuracy", "top_1": "accuracy"}


def _text(written: Any) -> Any:
    if not isinstance(written, str):
        raise ValueError(f"must be a comparison in quotes such as '>= 0.85', not {str(written)[:60]}")
    return written


def _is_bound(text: str) -> str:
    if not _BOUND.fullmatch(text.strip()):
        raise ValueError(f"must be a comparison such as '>= 0.85', with one of {', '.join(OPERATORS)}, not {text[:60]!r}")
    return text.strip()


Bound = Annotated[str, BeforeValidator(_text), AfterValidator(_is_bound)]


@dataclass(frozen=True)
class Expectation:
    """A number that is to be reached.

    Attributes:
        model: whose; empty for every model that is neither a baseline nor trained alone.
        protocol: its name in the evaluation.
        metric: empty for the one that the protocol's name alone stands for.
        bound: as it is written, `>= 0.85`.
    """

    model: str
    protocol: str
    metric: str
    bound: str

    def is_met(self, value: float) -> bool:
        """Whether a number is within the bound. That of its interval which is beyond it does not count."""
        found = _BOUND.fullmatch(self.bound)
        assert found
        return OPERATORS[found[1]](value, float(found[2]))


def expectations(expect: Mapping[str, str], protocols: Sequence[str]) -> list[Expectation]:
    """What `expect` of an evaluation asks for.

    Args:
        protocols: names of its protocols.

    Raises:
        ValueError: where a key names none of them, in a line.
    """
    return [Expectation(*_parts(key, protocols), bound) for key, bound in expect.items()]


def _parts(key: str, protocols: Sequence[str]) -> tuple[str, str, str]:
    model, _, measure = key.rpartition("/")
    if measure in protocols:
        return model, measure, ""
    protocol, dot, metric = measure.rpartition(".")
    if dot and protocol in protocols:
        return model, protocol, _ALIASES.get(metric, metric)
    twins = [name for name in protocols if name.startswith(f"{(protocol or measure)}_") or name.startswith(f"{measure}_")]
    hint = f"there are several: {', '.join(twins)}" if twins else did_you_mean(protocol or measure, protocols) or f"there are: {', '.join(protocols)}"
    raise ValueError(f"'{key}' is of no protocol of this stage; {hint}")


def strangers(expect: Mapping[str, str], protocols: Sequence[str], models: Collection[str]) -> Iterator[str]:
    """A line for each key that names a model which is not judged.

    Args:
        models: as they are judged; one with several seeds may also be named without, for their mean.
    """
    known = {*models, *map(group, models), "pixels"}
    for key, expected in zip(expect, expectations(expect, protocols), strict=True):
        if expected.model and expected.model not in known and not expected.model.startswith("random init ("):
            hint = did_you_mean(expected.model, known) or f"there are: {', '.join(models)}"
            yield f"'{key}' is of no model of this stage; {hint}"
