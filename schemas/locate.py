"""Values of a YAML file as a tree in which every key and value knows its place."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from schemas.errors import Problem


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written; line and column from 1, or 0 where it is not in a file (`--set`)."""

    file: Path
    line: int = 0
    column: int = 0

    def problem(self, path: str, message: str) -> Problem:
        """A problem that is placed here; what would break its one line is escaped, and an endless one is cut."""
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message[:2000])
        return Problem(self.file, self.line, self.column, path, line)


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the tree. Trees share nodes, so nodes are never changed, only replaced.

    Attributes:
        value: None, bool, int, float, str, a list of nodes, or a dict from str to node.
        path: dotted, where it was written.
        key: place of the key that it is the value of; None for items and the root.
        via: the `${...}` that it was made from.
    """

    value: Any
    place: Place
    path: str = ""
    key: Place | None = None
    via: str = ""

    @property
    def name_place(self) -> Place:
        """Where its name stands: the key if it has one, else the value."""
        return self.key or self.place


def plain(node: Node) -> Any:
    """The value without places."""
    match node.value:
        case dict() as items:
            return {key: plain(item) for key, item in items.items()}
        case list() as items:
            return [plain(item) for item in items]
        case scalar:
            return scalar


def located(value: Any, place: Place, path: str = "") -> Node:
    """A tree of plain values, all of it at one place."""
    if isinstance(value, dict):
        value = {str(key): replace(located(item, place, join(path, str(key))), key=place) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        value = [located(item, place, join(path, str(i))) for i, item in enumerate(value)]
    return Node(value, place, path)


def described(node: Node) -> str:
    """What the value is, in YAML's words; what a variable of the environment holds is not told."""
    match node.value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _ if node.via.startswith("${env:"):
            return f"the value of {node.via}"
        case None:
            told = "null"
        case bool() as value:
            told = "true" if value else "false"
        case int() | float() as value:
            told = f"the number {value}"
        case text:
            told = f"the text {text[:60]!r}" + ("..." if len(text) > 60 else "")
    return f"{told} (from {node.via})" if node.via else told


def join(path: str, key: str) -> str:
    """The dotted path of `key` in `path`; a key that would break the line is escaped and shortened."""
    key = key if key.isprintable() and len(key) <= 80 else repr(key[:80])
    return f"{path}.{key}" if path else key
