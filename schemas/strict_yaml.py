"""YAML read strictly: one tree of located nodes, or the fault and its place.

Stricter than YAML 1.1: only `true` and `false` are booleans, `1e-4` is a number, `012`, `1:30`, `on` and dates are text, tags are
refused, no key stands twice. Built from the parser's events without recursion, so no file can exhaust the stack or the memory.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import InvalidPipeline, Problem
from schemas.locate import Node, Place, described, join

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
"""Values of a file after aliases are followed: what stops a bomb of nested anchors."""
MAX_DEPTH = 64

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False, ".inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}


def scalar(text: str) -> Any:
    """The value of an unquoted scalar."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def spelled(value: Any) -> str:
    """A plain value as one would write it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return '""' if value == "" else str(value)


def read(file: Path) -> str:
    """The text of a file of at most `MAX_BYTES`.

    Raises:
        InvalidPipeline: if it is missing, a folder, unreadable, too large or not UTF-8.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror or "").lower() if isinstance(error, OSError) else str(error)
        raise InvalidPipeline([Place(file).problem("", f"cannot be read: {reason}")]) from None
    if len(content) > MAX_BYTES:
        raise InvalidPipeline([Place(file).problem("", _TOO_LARGE)])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        raise InvalidPipeline([_at(file, before, len(before)).problem("", "is not UTF-8 text")]) from None


_TOO_LARGE = f"is larger than {MAX_BYTES:,} bytes; a pipeline holds config, data belongs in files of its own"


def _at(file: Path, text: str, index: int) -> Place:
    return Place(file, text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def parse(text: str, file: Path, problems: list[Problem]) -> Node | None:
    """The one document of `text`, None if it has none. Faults that do not stop the reading are added to `problems`.

    Raises:
        InvalidPipeline: if it is no YAML, too large, too deep, or a bomb.
    """
    return _Composer(file, problems).compose(text)


@dataclass(slots=True)
class _Open:
    """A collection that is being read."""

    node: Node
    anchor: str | None
    key: Any = None
    key_place: Place | None = None
    merges: list[Node] = field(default_factory=list)
    values: int = 1
    height: int = 1


_REFUSED, _MERGE = object(), object()
"""Stand for a key that is no text, and for `<<`."""


class _Composer:
    def __init__(self, file: Path, problems: list[Problem]) -> None:
        self.file, self.problems = file, problems
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Node, int, int]] = {}
        self.values = 0
        self.root: Node | None = None

    def compose(self, text: str) -> Node | None:
        if len(text) > MAX_BYTES:
            raise InvalidPipeline([Place(self.file).problem("", _TOO_LARGE)])
        try:
            for event in yaml.parse(text, Loader=_PARSER):
                self.take(event)
        except yaml.MarkedYAMLError as error:
            raise InvalidPipeline([self.syntax(text, error)]) from None
        except yaml.reader.ReaderError as error:
            strange = yaml.reader.Reader.NON_PRINTABLE.search(text)
            index = strange.start() if strange else 0
            found = f"the character U+{ord(text[index]):04X} is not allowed in YAML" if strange else f"is not YAML: {error.reason}"
            raise InvalidPipeline([_at(self.file, text, index).problem("", found)]) from None
        except UnicodeEncodeError as error:
            raise InvalidPipeline([_at(self.file, text, error.start).problem("", "is not UTF-8 text")]) from None
        return self.root

    def syntax(self, text: str, error: yaml.MarkedYAMLError) -> Problem:
        """What the parser found, placed where the fault begins if it was only noticed at the end."""
        lines = text.split("\n")
        mark = error.problem_mark
        if mark is None or mark.line >= len(lines) or "could not find" in (error.problem or ""):
            mark = error.context_mark or mark
        if mark is None:
            return Place(self.file).problem("", f"is not YAML: {error.problem}")
        place = Place(self.file, mark.line + 1, mark.column + 1)
        if mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t":
            return place.problem("", "a tab; YAML is indented with spaces")
        start = error.context_mark
        since = f" ({error.context}, from line {start.line + 1})" if start and start.line != mark.line else ""
        return place.problem("", f"is not YAML: {error.problem}{since}")

    def take(self, event: Any) -> None:
        place = Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)
        if getattr(event, "tag", None) is not None:
            tag = _short(event.tag.replace("tag:yaml.org,2002:", "!!"))
            self.problems.append(place.problem(self.path(), f"tags such as {tag} have no meaning here"))
        match event:
            case yaml.DocumentStartEvent() if self.root:
                raise InvalidPipeline([place.problem("", "a second document; a file holds one pipeline")])
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                self.stack.append(_Open(Node(value, place, self.path()), event.anchor))
                self.limit(place, 1, 0)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = self.stack.pop()
                self.merge(done)
                self.put(done.node, done.anchor, done.values, done.height)
            case yaml.ScalarEvent():
                written = event.value if event.style in ("'", '"', "|", ">") or not event.implicit[0] else scalar(event.value)
                self.limit(place, 1, 0)
                if event.value == "<<" and event.implicit[0] and self.awaits_key():
                    self.stack[-1].key = _MERGE
                else:
                    self.put(Node(written, place, self.path()), event.anchor, 1, 1)
            case yaml.AliasEvent():
                self.follow(event.anchor or "", place)

    def path(self) -> str:
        if not self.stack:
            return ""
        top = self.stack[-1]
        if isinstance(top.node.value, list):
            return join(top.node.path, str(len(top.node.value)))
        return top.node.path if top.key in (None, _MERGE, _REFUSED) else join(top.node.path, top.key)

    def awaits_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].node.value, dict) and self.stack[-1].key is None

    def limit(self, place: Place, values: int, height: int) -> None:
        """Count values, aliases followed; stop before they are too many or too deep."""
        self.values += values
        if self.values > MAX_VALUES:
            raise InvalidPipeline([place.problem(self.path(), f"more than {MAX_VALUES:,} values, aliases followed")])
        if len(self.stack) + height > MAX_DEPTH:
            raise InvalidPipeline([place.problem("", f"nested deeper than {MAX_DEPTH} levels")])

    def follow(self, anchor: str, place: Place) -> None:
        if anchor not in self.anchors:
            self.problems.append(place.problem(self.path(), f"no anchor '&{_short(anchor)}' is complete above this alias"))
            self.put(Node(None, place, self.path()), None, 1, 1)
            return
        node, values, height = self.anchors[anchor]
        self.limit(place, values, height)
        scalar_here = not isinstance(node.value, dict | list)
        self.put(replace(node, place=place, path=self.path()) if scalar_here else replace(node, key=None), None, values, height)

    def put(self, node: Node, anchor: str | None, values: int, height: int) -> None:
        """Hang a complete node into what is open."""
        if anchor is not None:
            self.anchors[anchor] = (node, values, height)
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        top.values += values
        top.height = max(top.height, height + 1)
        if isinstance(top.node.value, list):
            top.node.value.append(node)
        elif top.key is None:
            top.key, top.key_place = self.as_key(node), node.place
        else:
            self.entry(top, top.key, node)
            top.key = None

    def as_key(self, node: Node) -> Any:
        if isinstance(node.value, str):
            return node.value
        self.problems.append(node.place.problem(node.path, f"a key must be text, not {described(node)}"))
        return _REFUSED

    def entry(self, top: _Open, key: Any, node: Node) -> None:
        known = top.node.value
        if key is _MERGE:
            top.merges += node.value if isinstance(node.value, list) else [node]
        elif key in known and top.key_place:
            first = known[key].key.line
            self.problems.append(top.key_place.problem(join(top.node.path, key), f"duplicate key; it stands first on line {first}"))
        elif key is not _REFUSED:
            known[key] = replace(node, key=top.key_place)

    def merge(self, done: _Open) -> None:
        """Fill in what `<<` brings: the mapping's own keys win, then the earlier of several."""
        for source in done.merges:
            if isinstance(source.value, dict):
                for key, node in source.value.items():
                    done.node.value.setdefault(key, node)
            else:
                self.problems.append(source.place.problem(done.node.path, "'<<' takes a mapping or a list of mappings"))


def _short(text: str) -> str:
    return text[:40] if text.isprintable() else repr(text[:40])
