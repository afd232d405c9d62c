"""Which images of a step the report shows: groups of duplicates, the quarantined, a sample of those that go."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.curation import Retrieve
from ssl_tasks.curate.report.pictures import Album, Tile
from ssl_tasks.curate.report.story import STAYS, Rows, Story
from ssl_tasks.data import manifest

GROUPS, MEMBERS = 12, 7
"""Groups of duplicates a step; images of a group besides the one that is kept."""
QUARANTINED, SEEN = 48, 10
"""Quarantined images; images of a step that has no view of its own."""
NO_PICTURE = frozenset({"empty", "wrong type", "truncated", "unreadable", "too large"})
"""Reasons of `integrity` for which there is nothing to look at, or too much."""
LIKENESS = ("similarity", "typicality", "distance")
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
    alike, notes = likeness(story, number, gone, of)
    weakest = np.full(len(kept), np.inf)
    np.minimum.at(weakest, inverse, alike)
    largest, unlike = (np.lexsort((kept, key))[: GROUPS // 3].tolist() for key in (-counts, weakest))
    by_chance = story.random(number, 0).permutation(len(kept))[:GROUPS].tolist()
    scenes = []
    for group in list(dict.fromkeys([*largest, *unlike, *by_chance]))[:GROUPS]:
        places = np.flatnonzero(inverse == group)
        places = places[np.argsort(-alike[places], kind="stable")][:MEMBERS]
        first = album.of(story.after, [int(kept[group])], ["kept"], "kept")
        others = album.of(story.after, gone[places].tolist(), notes(places), "gone")
        scenes.append(Scene("", first + others, int(counts[group]) - len(others)))
    return scenes, len(kept)


def retrieved(story: Story, album: Album, number: int, step: Retrieve) -> tuple[list[Scene], int]:
    """Seeds drawn by chance, each with what it brought of the pool; and how many brought anything."""
    seeds = manifest.said(story.after, story.told[number]["step"]).get("seed")
    if seeds is None:
        return [], 0
    of = pc.fill_null(pc.cast(seeds, pa.int64()), -1).to_numpy()
    stays = np.flatnonzero((of >= 0) & ((story.taken > number) | (story.taken == STAYS)))
    chosen = story.random(number, 2).permutation(np.unique(of[stays]))
    listed = manifest.read(story.pool.dataset(step.seeds))
    scenes = []
    for seed in chosen[:GROUPS].tolist():
        rows = stays[of[stays] == seed]
        alike, notes = likeness(story, number, rows, rows)
        order = np.argsort(-alike, kind="stable")[:MEMBERS]
        brought = album.of(story.after, rows[order].tolist(), notes(order))
        scenes.append(Scene("", album.of(listed, [seed], ["seed"], "kept") + brought, len(rows) - len(brought)))
    return scenes, len(chosen)


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
    passed = np.flatnonzero(story.came & ((story.taken > number) | (story.taken == STAYS)))
    scenes = []
    for title, tone, rows in (("passes", "kept", passed), ("goes", "gone", np.flatnonzero(story.taken == number))):
        chosen = np.sort(story.random(number, 1).permutation(rows)[:SEEN])
        _, notes = likeness(story, number, chosen, chosen)
        scenes.append(Scene(title, album.of(story.after, chosen.tolist(), notes(np.arange(len(chosen))), tone), len(rows) - len(chosen)))
    return scenes if len(scenes[1].tiles) else []


def likeness(story: Story, number: int, rows: Rows, others: Rows) -> tuple[NDArray[np.float64], Callable[[Rows], list[str]]]:
    """What a step says of how alike rows are to what it compared them with: larger is more, 0 where it says nothing; and that in words, of some places."""
    columns = manifest.said(story.after, story.told[number]["step"])
    if "hash" in columns:
        first, second = (np.array([int(text or "0", 16) for text in columns["hash"].take(pa.array(each)).to_pylist()], np.uint64) for each in (rows, others))
        bits = np.bitwise_count(first ^ second).astype(np.float64)
        return -bits, lambda places: [f"{value:.0f} bits" for value in bits[places]]
    name = next((name for name in LIKENESS if name in columns), None)
    if name is None:
        return np.zeros(len(rows)), lambda _places: []
    values = np.asarray(pc.cast(columns[name].take(pa.array(rows)), pa.float64()).fill_null(float("nan")))
    alike = np.nan_to_num(-values if name == "distance" else values)
    return alike, lambda places: ["" if np.isnan(value) else f"{value:.3f}" for value in values[places]]


def _replaced(story: Story, number: int) -> tuple[Rows, Rows]:
    """Rows that a step removed for another's sake, and the rows of these others."""
    gone = np.flatnonzero(story.taken == number)
    of = pc.fill_null(story.after["duplicate_of"].take(pa.array(gone)), -1).to_numpy()
    return gone[of >= 0], of[of >= 0]
