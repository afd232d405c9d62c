"""The stages behind a report as a picture: boxes from the images at the left to the report at the right, as SVG that stands in the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from schemas.naming import group
from ssl_tasks.evaluate.lineage import Link

WIDE, HIGH, ACROSS, DOWN = 148, 46, 40, 14
"""Width and height of a box, and the gaps between boxes, in pixels."""
BEND = 24
"""How far a line goes on before it bends, in pixels."""
LONGEST = 19
"""Letters of a name that a box has room for."""


Place = str | tuple[str, str, int]
"""What takes room in a column: a stage, or a line between two stages that passes by there, which says from where to where, and in which column."""


@dataclass(frozen=True)
class Box:
    """A stage, or all seeds of it: what stands in its box, its upper left corner, and whether it is the report."""

    title: str
    kind: str
    x: float
    y: float
    is_report: bool


@dataclass(frozen=True)
class Diagram:
    """A picture of some boxes: its size, `paths` of SVG between them, and what it shows in words."""

    boxes: list[Box]
    paths: list[str]
    width: float
    height: float
    words: str


def diagram(links: Sequence[Link]) -> Diagram:
    """The picture of a chain; a line that other lines imply is left out.

    Args:
        links: each before those that it takes from, the report first, as `lineage.chain` gives them.
    """
    members: dict[str, list[Link]] = {}
    for link in links:
        members.setdefault(group(link.name), []).append(link)
    every = {name: list(dict.fromkeys(group(taken) for link in own for taken in link.takes)) for name, own in members.items()}
    takes = {name: [one for one in taken if not any(one in _behind(other, every) for other in taken)] for name, taken in every.items()}
    levels = _levels(takes)
    columns, ways = _columns(levels, takes)
    heights = [sum(map(_height, column)) + DOWN * (len(column) - 1) for column in columns]
    places: dict[Place, tuple[float, float]] = {}
    for level, column in enumerate(columns):
        y = (max(heights) - heights[level]) / 2
        for place in column:
            places[place] = (level * (WIDE + ACROSS), y)
            y += _height(place) + DOWN
    boxes = [Box(_short(name), _kind(members[name]), *places[name], name == links[0].name) for name in places if isinstance(name, str)]
    paths = [_path([(*places[place], _height(place)) for place in way]) for way in ways]
    said = [f"{name} is made from {', '.join(takes[name])}" for name in places if isinstance(name, str) and takes[name]]
    return Diagram(boxes, paths, len(columns) * (WIDE + ACROSS) - ACROSS, max(heights), f"From left to right: {'; '.join(said)}.")


def _height(place: Place) -> float:
    return HIGH if isinstance(place, str) else 0


def _levels(takes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Of each stage the longest way from what is made from nothing."""
    found: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((level(taken) for taken in takes[name]), default=-1)
        return found[name]

    return {name: level(name) for name in takes}


def _behind(name: str, takes: Mapping[str, Sequence[str]]) -> set[str]:
    """Everything that a stage was made from."""
    return {each for taken in takes[name] for each in ({taken} | _behind(taken, takes))}


def _columns(levels: Mapping[str, int], takes: Mapping[str, Sequence[str]]) -> tuple[list[list[Place]], list[list[Place]]]:
    """What stands in each column, from above, near what it is made from so that few lines cross; and of each line the places on its way."""
    columns: list[list[Place]] = [[] for _ in range(max(levels.values()) + 1)]
    ways: list[list[Place]] = []
    before: dict[Place, list[Place]] = {}
    for name in reversed(list(levels)):
        columns[levels[name]].append(name)
        for taken in takes[name]:
            passed = [(taken, name, level) for level in range(levels[taken] + 1, levels[name])]
            ways.append([taken, *passed, name])
            for place in passed:
                columns[place[2]].append(place)
            for first, second in pairwise(ways[-1]):
                before.setdefault(second, []).append(first)
    for left, column in pairwise(columns):
        rank = {place: row for row, place in enumerate(left)}
        column.sort(key=lambda place: sum(rank[each] for each in before[place]) / len(before[place]) if place in before else len(rank) / 2)
    return columns, ways


def _path(way: Sequence[tuple[float, float, float]]) -> str:
    """A curve from the right side of one box to the left side of another, straight where it passes a column; of each place left, top and height."""
    drawn = ""
    for (x, y, height), (to, top, tall) in pairwise(way):
        start, end = (x + WIDE, y + height / 2), (to, top + tall / 2)
        drawn += f"{'L' if drawn else 'M'}{start[0]:g} {start[1]:g}C{start[0] + BEND:g} {start[1]:g} {end[0] - BEND:g} {end[1]:g} {end[0]:g} {end[1]:g}"
    return drawn


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _kind(links: Sequence[Link]) -> str:
    stages = len({link.name for link in links})
    return links[0].kind + (f", {stages} seeds" if stages > 1 else "")
