"""Faults that the models find, told in YAML's words at the place in the file."""

from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas import shapes
from schemas.errors import Problem, did_you_mean
from schemas.locate import Node, described, join
from schemas.overlay import SET
from schemas.pipeline import BrokenReferences, Pipeline
from schemas.shapes import Found, find, kind_of
from schemas.spec import Unfit
from schemas.stages import StageBase

_WANTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}
_NAME = "must be lower-case letters, digits and _, and begin with a letter"


def explain(error: ValidationError, root: Node, limit: int) -> list[Problem]:
    """Each fault once, at most `limit`; broken references are left to the caller."""
    shown = [problem for details in error.errors(include_url=False)[:limit] if (problem := _explained(details, root))]
    count = error.error_count()
    return shown if count <= limit else [replace(root.place, line=0).problem("", f"has {count} faults, of which the first {limit} follow"), *shown]


def at(node: Node, message: str) -> Problem:
    """A problem with a value: at the value, or at the name of a mapping or list."""
    place = node.name_place if isinstance(node.value, dict | list) else node.place
    return place.problem(node.path, message)


def _explained(details: ErrorDetails, root: Node) -> Problem | None:
    loc, context = details["loc"], details.get("ctx", {})
    raised = context.get("error")
    if isinstance(raised, BrokenReferences) or not find(root, loc).meant:
        return None
    match details["type"]:
        case "extra_forbidden":
            return _unknown_key(find(root, loc[:-1]), str(loc[-1]))
        case "missing":
            return _missing(find(root, loc[:-1]), loc[-1])
        case "union_tag_not_found":
            found = find(root, loc)
            return at(found.node, f"missing 'kind'; kinds: {', '.join(shapes.kinds(found.annotation))}")
        case "union_tag_invalid":
            found = find(root, loc)
            return _unknown_kind(found.node, list(shapes.kinds(found.annotation)))
        case "literal_error":
            found = find(root, loc)
            if loc[-1] == "kind":
                return _unknown_kind(found.node, list(shapes.choices(found.annotation)))
            return _choice(found)
        case "value_error" if isinstance(raised, Unfit):
            places = [find(root, (*loc, *blame.split("."))) for blame in raised.blame]
            written = [found for found in places if not found.rest]
            return at((written or places or [find(root, loc)])[0].node, str(raised))
        case "value_error":
            return at(find(root, loc).node, str(raised))
        case "string_pattern_mismatch" if loc[-1] == "[key]":
            node = find(root, loc[:-1]).node
            return node.name_place.problem(node.path, f"{_NAME}")
        case "string_pattern_mismatch":
            return at(find(root, loc).node, _NAME)
        case "too_short" | "too_long":
            return _length(find(root, loc).node, context)
        case kind:
            found = find(root, loc)
            wanted = _WANTED.get(kind)
            message = f"must be {wanted.format(**context)}, not {described(found.node)}" if wanted else details["msg"]
            return at(found.node, message)


def _unknown_key(found: Found, key: str) -> Problem:
    spec = next((branch for branch in shapes.branches(found.annotation) if shapes.is_spec(branch)), None)
    if union := shapes.kinds(found.annotation):
        spec = union.get(kind_of(found.node), spec)
    allowed = list(spec.model_fields) if spec else []
    if spec is Pipeline:
        allowed.append("extends")
    if spec and issubclass(spec, StageBase):
        allowed.append("matrix")
    child = found.node.value.get(key) if isinstance(found.node.value, dict) else None
    place = child.name_place if child else found.node.place
    path = child.path if child else join(found.node.path, key)
    return place.problem(path, f"unknown key; {did_you_mean(key, allowed) or 'there may be: ' + ', '.join(allowed)}")


def _missing(found: Found, key: str | int) -> Problem:
    if isinstance(key, int):
        return at(found.node, f"must have {key + 1} items")
    message = f"missing '{key}'"
    if found.node.place.file == SET and found.parent and isinstance(found.parent.value, dict):
        name = found.node.path.rpartition(".")[2]
        near = did_you_mean(name, [sibling for sibling in found.parent.value if sibling != name])
        message += f"; {near}" if near else ""
    return found.node.name_place.problem(found.node.path, message)


def _unknown_kind(node: Node, kinds: list[str]) -> Problem:
    kind = node.value.get("kind") if isinstance(node.value, dict) else node
    kind = kind or node
    if not isinstance(kind.value, str):
        return at(kind, f"'kind' must be text, not {described(kind)}; kinds: {', '.join(kinds)}")
    hint = did_you_mean(kind.value, kinds)
    return at(kind, f"unknown kind {kind.value[:60]!r}; {hint + ' ' if hint else ''}kinds: {', '.join(kinds)}")


def _choice(found: Found) -> Problem:
    allowed = [str(choice) for choice in shapes.choices(found.annotation)]
    hint = did_you_mean(found.node.value, allowed) if isinstance(found.node.value, str) else ""
    return at(found.node, f"must be one of {', '.join(allowed)}, not {described(found.node)}" + (f"; {hint}" if hint else ""))


def _length(node: Node, context: dict[str, Any]) -> Problem:
    least, most = context.get("min_length"), context.get("max_length")
    bound = f"at least {least}" if least is not None else f"at most {most}"
    size = context.get("actual_length")
    return at(node, f"must have {bound} item{'' if (least or most) == 1 else 's'}, not {size}")
