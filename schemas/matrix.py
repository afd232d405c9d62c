"""`matrix` on a stage: one stage a combination of values, and references in lists that mean all of them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

from schemas.errors import InvalidPipeline, Problem
from schemas.locate import Node, described, plain
from schemas.overlay import set_at, unreachable
from schemas.references import Loc, references, split
from schemas.stages import Stage, StageBase
from schemas.strict_yaml import MAX_VALUES, spelled

MAX_STAGES = 1000


def expand(root: Node, problems: list[Problem]) -> Node:
    """The tree in which each stage with a `matrix` is replaced by its combinations."""
    stages = root.value.get("stages")
    if stages is None or not isinstance(stages.value, dict):
        return root
    made: dict[str, Node] = {}
    for name, stage in stages.value.items():
        if "[" in name:
            problems.append(stage.name_place.problem(stage.path, "must be lower-case letters, digits and _; `matrix` adds the brackets"))
        if isinstance(stage.value, dict) and "matrix" in stage.value:
            made.update(_combinations(name, stage, problems))
        else:
            made[name] = stage
        if len(made) > MAX_STAGES:
            raise InvalidPipeline([*problems, stage.name_place.problem(stage.path, f"more than {MAX_STAGES} stages")])
    return replace(root, value={**root.value, "stages": replace(stages, value=made)})


def _combinations(name: str, stage: Node, problems: list[Problem]) -> dict[str, Node]:
    matrix = stage.value["matrix"]
    bare = replace(stage, value={key: node for key, node in stage.value.items() if key != "matrix"})
    faults = list(_faults(matrix, bare))
    if faults:
        problems += faults
        return {name: bare}
    short = [key.rpartition(".")[2] for key in matrix.value]
    titles = [title if short.count(title) == 1 else key for key, title in zip(matrix.value, short, strict=True)]
    labels = [_labels(node.value) for node in matrix.value.values()]
    made = {}
    for choice in product(*(range(len(node.value)) for node in matrix.value.values())):
        changed = bare
        for key, i in zip(matrix.value, choice, strict=True):
            entry = matrix.value[key]
            value = replace(entry.value[i], key=entry.key)
            scalar = not isinstance(value.value, dict | list)
            changed = set_at(changed, key.split("."), replace(value, path=entry.path) if scalar else value, matrix.path, Stage)
        told = ",".join(f"{title}={label[i]}" for title, label, i in zip(titles, labels, choice, strict=True))
        made[f"{name}[{told}]"] = changed
    return made


def _faults(matrix: Node, stage: Node) -> Iterator[Problem]:
    if not isinstance(matrix.value, dict) or not matrix.value:
        found = "an empty mapping" if matrix.value == {} else described(matrix)
        yield matrix.name_place.problem(matrix.path, f"must be a mapping from keys of the stage to lists of values, not {found}")
        return
    for key, node in matrix.value.items():
        if not isinstance(node.value, list) or not node.value:
            found = "an empty list" if node.value == [] else described(node)
            yield node.place.problem(node.path, f"must be a list of values, not {found}")
            continue
        if wrong := unreachable(stage, key.split(".")):
            yield node.name_place.problem(node.path, wrong)
        seen: list[Any] = []
        for item in node.value:
            value = plain(item)
            if any(value == other and type(value) is type(other) for other in seen):
                yield item.place.problem(item.path, f"{described(item)} stands twice")
            seen.append(value)
    if prod(len(node.value) for node in matrix.value.values() if isinstance(node.value, list)) > MAX_STAGES:
        yield matrix.name_place.problem(matrix.path, f"makes more than {MAX_STAGES} stages")


def _labels(values: list[Node]) -> list[str]:
    """What names each value: its text, the kind of a mapping, or its number in the list where that would be ambiguous."""
    told = [_label(node) for node in values]
    return [label if label and told.count(label) == 1 else str(i) for i, label in enumerate(told)]


def _label(node: Node) -> str:
    value = node.value.get("kind", node).value if isinstance(node.value, dict) else node.value
    if isinstance(value, dict | list):
        return ""
    return re.sub(r"[^\w.+/@ ()=-]", "", spelled(value).replace("[", "(").replace("]", ")"))[:60]


def spread(stages: Node, valid: Mapping[str, StageBase]) -> Node:
    """The stages with each reference in a list that means several (a matrix, a stage of several outputs) replaced by all of them."""
    made = dict(stages.value)
    for name, stage in valid.items():
        lists: dict[Loc, list[list[str]]] = {}
        for reference in references(stage):
            if isinstance(reference.loc[-1], int):
                lists.setdefault(reference.loc[:-1], []).append(meant(reference.text, stages.value, valid))
        for loc, items in lists.items():
            if sum(map(len, items)) > MAX_VALUES:
                raise InvalidPipeline([made[name].name_place.problem(made[name].path, f"its references mean more than {MAX_VALUES:,} outputs")])
            made[name] = _spread_at(made[name], loc, items)
    return replace(stages, value=made)


def meant(text: str, names: Mapping[str, Any], valid: Mapping[str, StageBase]) -> list[str]:
    """Every output that a reference in a list stands for, in order; the text itself where that is not known."""
    stage, output = split(text)
    makers = [stage] if stage in names else [name for name in names if name.startswith(f"{stage}[")]
    outputs = {maker: (output,) if output or maker not in valid else valid[maker].outputs for maker in makers}
    return [f"{maker}.{each}" if each else maker for maker, all_of in outputs.items() for each in all_of] or [text]


def _spread_at(node: Node, loc: Loc, items: list[list[str]]) -> Node:
    if loc:
        inside = {loc[0]: _spread_at(node.value[loc[0]], loc[1:], items)}
        return replace(node, value={**node.value, **inside} if isinstance(node.value, dict) else [inside.get(i, n) for i, n in enumerate(node.value)])
    return replace(node, value=[replace(written, value=text) for written, texts in zip(node.value, items, strict=True) for text in texts])
