"""What the models declare, as plain data, and where in a tree a location of the models lies."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from schemas.artifacts import Takes
from schemas.locate import Node
from schemas.pipeline import Pipeline
from schemas.references import Loc, Reference, mark
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


def member(annotation: Any, node: Node, tag: str) -> tuple[Any, bool]:
    """Of a union without kinds, such as a number or a list: the type that pydantic's tag names, and whether it is the one that `node` is written as."""
    members = branches(annotation)
    named = next((m for m in members if tag == getattr(m, "__name__", "") or tag.startswith(f"{getattr(get_origin(m), '__name__', '')}[")), members[0])
    meant = next((m for m in members if _written_as(m) is (type(node.value) if isinstance(node.value, dict | list) else object)), members[0])
    return named, named is meant


def _written_as(annotation: Any) -> type:
    if is_spec(annotation) or get_origin(annotation) is dict:
        return dict
    return list if get_origin(annotation) in (list, tuple) else object


def default_kind(annotation: Any, part: str | int) -> str:
    """The kind of what stands at `part` where nothing is written; empty where that has no kind."""
    for branch in branches(annotation):
        if is_spec(branch) and part in branch.model_fields:
            return getattr(branch.model_fields[part].default, "kind", "")
    return ""


def kind_of(node: Node) -> str:
    """The kind that is written, in full or as a bare string; empty for none."""
    kind = node.value.get("kind") if isinstance(node.value, dict) else node
    return kind.value if kind and isinstance(kind.value, str) else ""


@dataclass(frozen=True)
class Found:
    """Where a location of the models lies in a tree.

    Attributes:
        node: the value, or the nearest around it that the user wrote.
        annotation: the declared type of the value.
        parent: the mapping or list around `node`; None for the root.
        rest: the part of the location that the user did not write.
        default: kind of the value where it is not written; empty where that has none.
        meant: false in a member of a union that is written in another way, such as a mapping where there is a number.
    """

    node: Node
    annotation: Any
    parent: Node | None = None
    rest: tuple[str | int, ...] = ()
    default: str = ""
    meant: bool = True


def find(root: Node, loc: Iterable[str | int], annotation: Any = Pipeline) -> Found:
    """Follow a location through a tree of type `annotation`. The kinds that pydantic adds for unions are not in the file and are skipped."""
    loc = tuple(loc)
    node, parent, default, meant = root, None, "", True
    rest: tuple[str | int, ...] = ()
    for i, step in enumerate(loc):
        union = kinds(annotation)
        if len(union) > 1 and step in union:
            annotation = union[str(step)]
            continue
        if isinstance(step, str) and step.startswith("("):  # pydantic's tag of a plain value's type, see `views.PerCrop`
            continue
        if isinstance(step, str) and not union and len(branches(annotation)) > 1 and not (isinstance(node.value, dict) and step in node.value):
            annotation, fits = member(annotation, node, step)
            meant = meant and fits
            continue
        annotation = union.get(default if rest else kind_of(node), annotation)
        part = int(step) if isinstance(node.value, list) and isinstance(step, str) and step.isdecimal() else step
        annotation, default = inner(annotation, part), default_kind(annotation, part)
        there = range(len(node.value)) if isinstance(node.value, list) else node.value if isinstance(node.value, dict) else ()
        if rest:
            continue
        if part in there:
            node, parent = node.value[part], node
        elif not (part == "kind" and isinstance(node.value, str)):
            rest = loc[i:]
    return Found(node, annotation, parent, rest, default, meant)


def written_references(node: Node, annotation: Any, taken: Takes | None = None, loc: Loc = ()) -> Iterator[Reference]:
    """Every reference in a tree that need not be valid, as `references.references` finds them in a valid stage."""
    if isinstance(node.value, str) and taken:
        yield Reference(loc, taken.artifact, node.value)
    elif isinstance(node.value, list):
        for i, item in enumerate(node.value):
            yield from written_references(item, inner(annotation, i), taken, (*loc, i))
    elif isinstance(node.value, dict):
        spec = kinds(annotation).get(kind_of(node)) or next(filter(is_spec, branches(annotation)), None)
        fields = spec.model_fields if spec else {}
        for key, item in node.value.items():
            if key in fields:
                yield from written_references(item, fields[key].annotation, mark(fields[key]), (*loc, key))
