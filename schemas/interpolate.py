"""`${params.x}` and `${env:NAME}`: what they stand for, put in their place."""

import re
from collections.abc import Mapping
from dataclasses import replace

from schemas.errors import InvalidPipeline, Problem, did_you_mean
from schemas.locate import Node, located
from schemas.strict_yaml import MAX_BYTES, MAX_VALUES, scalar, spelled

_USE = re.compile(r"\$\$\{|\$\{([^${}]*)\}|\$\{")
"""An escape, a use, or the start of one that does not end."""
_NAME = re.compile(r"\s*(?:params\.(?P<param>.*?)|env:(?P<variable>.*?))\s*")


def interpolate(root: Node, environ: Mapping[str, str], problems: list[Problem]) -> Node:
    """The tree with every `${...}` replaced; faults are added to `problems`. Parameters may use the environment only."""
    if not isinstance(root.value, dict):
        return root
    params = root.value.get("params")
    if params is not None:
        params = _Values(None, environ, problems).fill(params)
    known = params.value if params and isinstance(params.value, dict) else {}
    values = _Values(known, environ, problems)
    return replace(root, value={key: params if key == "params" and params else values.fill(node) for key, node in root.value.items()})


class _Values:
    """What `${...}` may stand for; `params` is None where parameters may not be used."""

    def __init__(self, params: Mapping[str, Node] | None, environ: Mapping[str, str], problems: list[Problem]) -> None:
        self.params, self.environ, self.problems = params, environ, problems
        self.values, self.characters = 0, 0

    def fill(self, node: Node) -> Node:
        if isinstance(node.value, dict):
            return replace(node, value={key: self.fill(item) for key, item in node.value.items()})
        if isinstance(node.value, list):
            return replace(node, value=[self.fill(item) for item in node.value])
        if not isinstance(node.value, str) or "${" not in node.value:
            return node
        whole = _USE.fullmatch(node.value)
        if whole and whole[1] is not None:
            found = self.find(whole[1], node)
            self.count(node, _size(found), 0)
            return replace(found, place=node.place, path=node.path, key=node.key, via=whole[0])
        text = _USE.sub(lambda use: self.text(use, node), node.value)
        self.count(node, 0, len(text))
        return replace(node, value=text)

    def text(self, use: re.Match[str], node: Node) -> str:
        if use[0] == "$${":
            return "${"
        found = self.find(use[1], node)
        if isinstance(found.value, dict | list):
            kind = "mapping" if isinstance(found.value, dict) else "list"
            self.problems.append(node.place.problem(node.path, f"{use[0]} is a {kind}; it can only stand alone, not within text"))
            return ""
        told = found.value if isinstance(found.value, str) else spelled(found.value)
        self.count(node, 0, len(told))
        return told

    def find(self, name: str | None, node: Node) -> Node:
        """What the name stands for; null and a problem where it stands for nothing."""
        match _NAME.fullmatch(name or ""):
            case re.Match() as named if (variable := named["variable"]) is not None:
                if variable in self.environ:
                    return located(scalar(self.environ[variable].strip()), node.place, node.path)
                fault = f"the environment variable {variable[:60]!r} is not set"
            case re.Match() as named if self.params is not None:
                if named["param"] in self.params:
                    return self.params[named["param"]]
                hint = did_you_mean(named["param"], self.params) or f"there are: {', '.join(self.params) or 'none; add it to params'}"
                fault = f"unknown parameter {named['param'][:60]!r}; {hint}"
            case re.Match():
                fault = "a parameter may use ${env:NAME}, not another parameter"
            case _ if name is None:
                fault = "'${' is not closed; write $${ for a plain ${"
            case _:
                fault = f"unknown '${{{(name or '')[:60]}}}'; write ${{params.NAME}} or ${{env:NAME}}, and $${{ for a plain ${{"
        self.problems.append(node.place.problem(node.path, fault))
        return replace(node, value=None)

    def count(self, node: Node, values: int, characters: int) -> None:
        self.values += values
        self.characters += characters
        if self.values > MAX_VALUES or self.characters > MAX_BYTES:
            raise InvalidPipeline([node.place.problem(node.path, "parameters make the pipeline too large")])


def _size(node: Node) -> int:
    items = node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    return 1 + sum(map(_size, items))
