"""One tree laid over another: how `extends`, `--set` and `matrix` change what is written below them."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from schemas.errors import InvalidPipeline, Problem, did_you_mean
from schemas.locate import Node, Place, join, located, plain
from schemas.pipeline import Pipeline
from schemas.shapes import branches, find, inner, is_spec, kind_of, kinds
from schemas.spec import Spec
from schemas.strict_yaml import MAX_DEPTH, parse

SET = Path("--set")
_INDEX = re.compile(r"[0-9]{1,6}")


def overlay(base: Node, above: Node, annotation: Any = Pipeline) -> Node:
    """`base`, of type `annotation`, changed by `above`: mappings merge, null removes a key, anything else replaces.

    A mapping of another `kind` replaces the whole mapping below it. A mapping over a bare string merges with what this stands for:
    `{kind: x}`, or what the model says (`Spec.bare`).
    """
    if not isinstance(above.value, dict):
        return above
    annotation = kinds(annotation).get(kind_of(above) or kind_of(base), annotation)
    if isinstance(base.value, list) and above.value and all(_INDEX.fullmatch(i) and int(i) < len(base.value) for i in above.value):
        items = list(base.value)
        for index, node in above.value.items():
            items[int(index)] = overlay(items[int(index)], node, inner(annotation, int(index)))
        return replace(base, value=items)
    bare = next((branch.bare for branch in branches(annotation) if is_spec(branch)), Spec.bare)
    if isinstance(base.value, str) and bare not in above.value:
        base = replace(base, value={bare: replace(base, path=join(base.path, bare), key=base.name_place)})
    if not isinstance(base.value, dict) or _other_kind(base, above):
        return above
    merged = dict(base.value)
    for key, node in above.value.items():
        if key in merged and node.value is None:
            del merged[key]
        else:
            merged[key] = overlay(merged[key], node, inner(annotation, key)) if key in merged else node
    # What lacks a key that was removed is at fault where it was removed.
    return replace(base if base.value.keys() <= merged.keys() else above, value=merged)


def _other_kind(base: Node, above: Node) -> bool:
    below, stated = base.value.get("kind"), above.value.get("kind")
    return bool(below and stated and below.value != stated.value)


def set_at(base: Node, parts: list[str], value: Node, prefix: str, annotation: Any = Pipeline) -> Node:
    """`base`, of type `annotation`, with `value` laid over what stands at a dotted path.

    A part on the way that is not written yet begins as its default: it takes the default's kind.
    """
    place = value.name_place
    for depth in range(len(parts) - 1, -1, -1):
        path = ".".join((prefix, *parts[:depth])) if prefix else ".".join(parts[:depth])
        found = find(base, parts[:depth], annotation)
        entries = {parts[depth]: replace(value, key=place)}
        if found.rest and found.default and "kind" not in entries:
            entries["kind"] = Node(found.default, place, join(path, "kind"), place)
        value = Node(entries, place, path)
    return overlay(base, value, annotation)


def override(root: Node, assignment: str, problems: list[Problem]) -> Node:
    """The tree after `--set PATH=VALUE`."""
    path, equals, text = assignment.partition("=")
    path, parts, place = path.strip(), path.strip().split("."), Place(SET)
    if not equals or not text.strip() or not all(parts):
        problems.append(place.problem(path[:60], "must be PATH=VALUE, such as stages.teacher.train.epochs=5; null removes the key"))
        return root
    faults: list[Problem] = []
    try:
        value = parse(text, SET, faults)
    except InvalidPipeline as invalid:
        faults += invalid.problems
        value = None
    if wrong := unreachable(root, parts):
        faults.append(place.problem("", wrong))
    problems += [place.problem(path, fault.message) for fault in faults]
    if faults or value is None:
        return root
    return set_at(root, parts, located(plain(value), place, path), "")


def unreachable(root: Node, parts: list[str]) -> str:
    """Why a path cannot be set: an item, a stage or a parameter that is not there. The models judge the rest."""
    if len(parts) > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH} levels"
    if parts[0] == "params" and "params" not in root.value:
        return "the file declares no params"
    node = root
    for depth, part in enumerate(parts):
        if isinstance(node.value, list):
            if not _INDEX.fullmatch(part) or int(part) >= len(node.value):
                return f"no item '{part}' in a list of {len(node.value)}, counted from 0"
            node = node.value[int(part)]
        elif isinstance(node.value, dict):
            if part not in node.value:
                if depth == 1 and parts[0] in ("stages", "params"):
                    noun = "stage" if parts[0] == "stages" else "parameter"
                    return f"no {noun} '{part}'; {did_you_mean(part, node.value) or 'there are: ' + ', '.join(node.value)}"
                break
            node = node.value[part]
        else:
            break
    return ""
