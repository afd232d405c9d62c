"""What the models declare, as plain data: the branches of a union, the choices of a literal."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from schemas.spec import Spec


def branches(annotation: Any) -> list[Any]:
    """The types that an annotation allows, without marks and None."""
    if get_origin(annotation) is Annotated:
        return branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [branch for member in get_args(annotation) for branch in branches(member)]
    return [] if annotation is NoneType else [annotation]


def is_spec(annotation: Any) -> bool:
    """Whether it is one of our models."""
    return isinstance(annotation, type) and issubclass(annotation, Spec)


def tag(spec: type[Spec]) -> str:
    """The `kind` that tells a model from its siblings; empty for one without siblings."""
    return spec.model_fields["kind"].default if "kind" in spec.model_fields else ""


def kinds(annotation: Any) -> dict[str, type[Spec]]:
    """The models of a union by their kind; empty for anything else."""
    return {tag(branch): branch for branch in branches(annotation) if is_spec(branch) and tag(branch)}


def choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a literal."""
    return next((get_args(branch) for branch in branches(annotation) if get_origin(branch) is Literal), ())


def inner(annotation: Any, part: str | int) -> Any:
    """The type of what stands at `part` in a value of this type; Any where nothing is declared."""
    for branch in branches(annotation):
        if is_spec(branch) and part in branch.model_fields:
            return branch.model_fields[part].annotation
        arguments = get_args(branch)
        if get_origin(branch) is dict and isinstance(part, str):
            return arguments[1]
        if get_origin(branch) is list and isinstance(part, int):
            return arguments[0]
        if get_origin(branch) is tuple and isinstance(part, int):
            return arguments[min(part, len(arguments) - 1)]
    return Any
