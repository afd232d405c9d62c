"""Everything that a pipeline may name by `kind`, with meaning, paper and parameters: read from the models, never kept by hand."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from schemas import shapes
from schemas.curation import Step
from schemas.distillers import Distiller
from schemas.finetuning import Strategy
from schemas.methods import Method, MethodSpec
from schemas.methods.facts import Facts, facts
from schemas.protocols import Protocol
from schemas.references import mark
from schemas.sources import Source
from schemas.spec import Spec

GROUPS: dict[str, Any] = {
    "source": Source,
    "curation step": Step,
    "pretraining method": Method,
    "distillation method": Distiller,
    "finetuning strategy": Strategy,
    "protocol": Protocol,
}
_WORDS = {str: "text", bool: "true or false", int: "whole number", float: "number", Any: "anything", NoneType: "null"}


@dataclass(frozen=True)
class Parameter:
    """One key of a mapping. `type` is in words; `default` is plain data, None where `required`."""

    name: str
    type: str
    default: Any
    description: str
    required: bool


@dataclass(frozen=True)
class Entry:
    """One kind: its group, its meaning in one line, its parameters besides `kind`, and of a pretraining method what else is known of it."""

    group: str
    kind: str
    meaning: str
    paper: str
    parameters: tuple[Parameter, ...]
    facts: Facts | None = None


def catalog() -> list[Entry]:
    """Every kind of every group, in the order of the models."""
    return [
        Entry(group, kind, meaning(spec), spec.paper, parameters(spec), facts(spec) if issubclass(spec, MethodSpec) else None)
        for group, union in GROUPS.items()
        for kind, spec in shapes.kinds(union).items()
    ]


def meaning(spec: type[Spec]) -> str:
    """First line of the docstring."""
    return (spec.__doc__ or "").strip().partition("\n")[0]


def parameters(spec: type[Spec]) -> tuple[Parameter, ...]:
    """The keys of a mapping besides `kind`, with their types in words."""
    fields = sorted(spec.model_fields.items(), key=lambda item: item[0] == "resources")
    return tuple(_parameter(name, field) for name, field in fields if name != "kind")


def _parameter(name: str, field: FieldInfo) -> Parameter:
    default = None if field.is_required() else stated(field.default)
    return Parameter(name, _in_words(field), default, field.description or "", field.is_required())


def stated(default: Any) -> Any:
    """A default as one would write it: of a nested mapping only what differs from its own defaults."""
    if isinstance(default, Spec):
        values = {name: (getattr(default, name), field.default) for name, field in type(default).model_fields.items() if name != "kind"}
        own = {name: stated(value) for name, (value, usual) in values.items() if value != usual}
        kind = getattr(default, "kind", None)
        return ({"kind": kind, **own} if own else kind) if kind else own
    if isinstance(default, tuple | list):
        return [stated(each) for each in default]
    return float(f"{default:.4g}") if isinstance(default, float) else default


def _in_words(field: FieldInfo) -> str:
    taken = mark(field)
    words = f"reference to a {taken.artifact}" if taken else type_words(field.annotation)
    if taken and get_origin(field.annotation) is list:
        words = f"list of references to a {taken.artifact}"
    return words + _bounds(field.metadata)


def type_words(annotation: Any) -> str:
    """A type as a reader of the YAML says it."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return type_words(inner) + _bounds(marks)
    if union := shapes.kinds(annotation):
        return " or ".join(f"`{kind}`" for kind in union)
    arguments = get_args(annotation)
    match get_origin(annotation):
        case _ if shapes.is_spec(annotation):
            return f"mapping ({_spaced(annotation.__name__)})"
        case origin if origin in (Union, UnionType):
            return " or ".join(map(type_words, arguments))
        case origin if origin is Literal:
            return " or ".join(f"`{choice}`" for choice in arguments)
        case origin if origin is list:
            return f"list of: {type_words(arguments[0])}"
        case origin if origin is tuple:
            return f"list of: {type_words(arguments[0])}" if Ellipsis in arguments else f"list of {len(arguments)} numbers"
        case origin if origin is dict:
            return f"mapping from names to: {type_words(arguments[1])}"
        case _:
            return _WORDS[annotation]


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _bounds(marks: Iterable[Any]) -> str:
    told: list[str] = []
    for bound in chain.from_iterable(each.metadata if isinstance(each, FieldInfo) else (each,) for each in marks):
        match bound:
            case Gt(gt=value):
                told.append(f"above {value}")
            case Ge(ge=value):
                told.append(f"at least {value}")
            case Lt(lt=value):
                told.append(f"below {value}")
            case Le(le=value):
                told.append(f"at most {value}")
            case MinLen(min_length=count):
                told.append(f"at least {count}")
    return ", " + ", ".join(told) if told else ""
