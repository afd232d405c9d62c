"""Which images of a step the report shows: groups of duplicates, the quarantined, a sample of those that go."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssl_tasks.curate.report.pictures import Album, Tile
from ssl_tasks.curate.report.story import Rows, Story
from ssl_tasks.data import manifest

GROUPS, MEMBERS = 12, 7
"""Groups of duplicates a step; images of a group besides the one that is kept."""
QUARANTINED, SEEN = 48, 12
"""Quarantined images; images of a step that has no view of its own."""
NO_PICTURE = frozenset({"empty", "wrong type", "truncated", "unreadable", "too large"})
"""Reasons of `integrity` for which there is nothing to look at, or too much."""
LIKENESS = ("similarity", "cosine", "distance")
"""Names of provenance columns that say how alike an image is to what it was compared with."""


@dataclass(frozen=True)
class Scene:
    """Some tiles that belong together.

    Attributes:
        more: how many further ones there are.
        size: how many there were, and are.
    """

    title: str
    tiles: list[Tile]
    more: int = 0
    size: str = ""


def duplicates(story: Story, album: Album, number: int) -> tuple[list[Scene], int]:
    """Groups of a step: the largest, those least alike where that is known, and some by chance; and how many there are in all."""
    gone, of = _replaced(story, number)
    if not len(gone):
        return [], 0
    kept, inverse, counts = np.unique(of, return_inverse=True, return_counts=True)
    alike, unit = likeness(story, number)
    chosen = list(np.lexsort((kept, -counts))[: GROUPS // 3])
    if alike is not None:
        weakest = np.full(len(kept), np.inf)
        np.minimum.at(weakest, inverse, alike[gone])
        chosen += list(np.lexsort((kept, weakest))[: GROUPS // 3])
    chosen += list(story.random(number, 0).permutation(len(kept))[:GROUPS])
    scenes = []
    for group in list(dict.fromkeys(int(c) for c in chosen))[:GROUPS]:
        rows = gone[inverse == group]
        if alike is not None:
            rows = rows[np.argsort(-alike[rows], kind="stable")]
        notes = [] if alike is None else [said(alike[row], unit) for row in rows[:MEMBERS]]
        first = album.of(story.after, [int(kept[group])], ["kept"], "kept")
        scenes.append(Scene("", first + album.of(story.after, rows[:MEMBERS].tolist(), notes, "gone"), max(0, len(rows) - MEMBERS)))
    return scenes, len(kept)


def quarantined(story: Story, album: Album, number: int) -> list[Scene]:
    """What a step found unfit, by reason, the most frequent first."""
    gone = np.flatnonzero(story.taken == number)
    reasons = np.array([why.partition(": ")[2] for why in story.after["why"].take(pa.array(gone)).to_pylist()], object)
    scenes = []
    ranked = sorted(story.told[number]["reasons"].items(), key=lambda reason: (-reason[1], reason[0]))
    room = max(4, QUARANTINED // max(1, len(ranked)))
    for reason, count in ranked[:QUARANTINED]:
        rows = gone[reasons == reason][:room]
        tiles = album.of(story.after, rows.tolist(), tone="gone", fault=reason if reason in NO_PICTURE else "")
        scenes.append(Scene(reason, tiles, count - len(rows)))
    return scenes


def sample(story: Story, album: Album, number: int) -> list[Scene]:
    """Some that a step removed, and some that it let pass, each with what the step saw in it."""
    alike, unit = likeness(story, number)
    passed = np.flatnonzero(story.came & ((story.taken > number) | (story.taken < 0)))
    scenes = []
    for title, tone, rows in (("stays", "kept", passed), ("goes", "gone", np.flatnonzero(story.taken == number))):
        chosen = np.sort(story.random(number, 1).permutation(rows)[:SEEN])
        notes = [] if alike is None else [said(alike[row], unit) for row in chosen]
        scenes.append(Scene(title, album.of(story.after, chosen.tolist(), notes, tone), len(rows) - len(chosen)))
    return scenes if len(scenes[1].tiles) else []


def likeness(story: Story, number: int) -> tuple[NDArray[np.float64] | None, str]:
    """How alike each row is to what a step compared it with, larger is more, and the column's name; None where no column says so."""
    columns = manifest.said(story.after, story.told[number]["step"])
    for name, values in columns.items():
        if name in LIKENESS:
            found = np.asarray(pc.cast(values, pa.float64()).fill_null(float("nan")))
            return (-found if name == "distance" else found), name
    return None, ""


def said(value: float, unit: str) -> str:
    """A likeness for a reader."""
    if np.isnan(value):
        return ""
    return f"{-value:g} bits" if unit == "distance" else f"{value:.3f}"


def _replaced(story: Story, number: int) -> tuple[Rows, Rows]:
    """Rows that a step removed for another's sake, and the rows of these others."""
    gone = np.flatnonzero(story.taken == number)
    of = pc.fill_null(story.after["duplicate_of"].take(pa.array(gone)), -1).to_numpy()
    return gone[of >= 0], of[of >= 0]
