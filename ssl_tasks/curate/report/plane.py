"""The map: a sample of the images in the plane, by what their likeness was last measured on."""

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from schemas.curation import Integrity
from schemas.embeddings import Embedding
from schemas.errors import UserError
from ssl_tasks.curate.report.counts import percent
from ssl_tasks.curate.report.story import STAYS, Rows, Story
from ssl_tasks.report.theme import LIGHT

MAPPED, FEWEST, LEAST = 600, 150, 12
"""Images in the map; of those that stay, and of those that go, at least so many, where there are; below the last there is no map."""
DIM = 32
SIDE = 400
"""Of the map's square, in its own units."""


@dataclass(frozen=True)
class Layer:
    """The images that one step removed, or those that stay.

    Attributes:
        path: SVG path of a dot each, in a box of `SIDE` x `SIDE`.
        hue: of the palette.
    """

    name: str
    count: int
    hue: int
    path: str


@dataclass(frozen=True)
class Plane:
    """A map as it stands on the page.

    Attributes:
        layers: those that stay last.
    """

    layers: list[Layer]
    caption: str
    png: bytes


def plane(story: Story) -> Plane | None:
    """t-SNE (https://jmlr.org/papers/v9/vandermaaten08a.html) of a seeded sample; None where there is too little to see, or an image is gone."""
    rows = sample(story)
    if len(rows) < LEAST:
        return None
    embedding = measured(story)
    try:
        vectors = story.pool.embeddings(embedding, story.after.take(pa.array(rows)))
    except (UserError, OSError):
        return None
    places = np.rint(spread(vectors) * (SIDE - 24) + 12).astype(int)
    taken = story.taken[rows]
    layers: list[Layer] = []
    drawn = []
    for number in [*(n for n in range(len(story.steps)) if (taken == n).any()), STAYS]:
        here = places[taken == number]
        name, hue = ("stays", 0) if number == STAYS else (story.steps[number].kind.replace("_", " "), 1 + len(layers) % (len(LIGHT.hues) - 1))
        layers.append(Layer(name, len(here), hue, "".join(f"M{x} {y}h0" for x, y in here)))
        drawn.append((here, hue))
    stay = int((taken == STAYS).sum())
    made = f"{embedding.kind} embeddings" if embedding.kind != "pixels" else "shrunken pixels"
    caption = f"t-SNE of the {made} of {len(rows):,} images drawn at random: {stay:,} of the {story.stays.sum():,} that stay, "
    gone = int(eligible(story).sum() - story.stays.sum())
    caption += f"{len(rows) - stay:,} of the {gone:,} readable ones that go" if gone else "none goes"
    if gone and abs(stay / len(rows) - story.stays.sum() / (story.stays.sum() + gone)) > 0.05:
        caption += f" (in truth {percent(int(story.stays.sum()), int(story.stays.sum()) + gone)} stay)"
    return Plane(layers, f"{caption}. Distances between groups mean nothing.", png(drawn))


def eligible(story: Story) -> NDArray[np.bool_]:
    """Train images that can be looked at: they came in, and `integrity` did not remove them."""
    unfit = [number for number, step in enumerate(story.steps) if isinstance(step, Integrity)]
    return np.asarray(story.came & ~np.isin(story.taken, unfit))


def sample(story: Story) -> Rows:
    """Rows in the map, in order: as many that stay as their share is, but some of either kind."""
    random = story.random(2)
    stay, go = (random.permutation(np.flatnonzero(mask)) for mask in (eligible(story) & (story.taken == STAYS), eligible(story) & (story.taken != STAYS)))
    if len(stay) + len(go) > MAPPED:
        share = round(MAPPED * len(stay) / (len(stay) + len(go)))
        wanted = max(min(FEWEST, len(stay)), min(share, MAPPED - min(FEWEST, len(go))))
        stay, go = stay[:wanted], go[: MAPPED - wanted]
    return np.sort(np.concatenate([stay, go]))


def measured(story: Story) -> Embedding:
    """What the last step that measured likeness measured it on."""
    for step in reversed(story.steps):
        embedding: Embedding | None = getattr(step, "embedding", None)
        if embedding:
            return embedding
    return story.pool.measured


def spread(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Places in the unit square, (N, 2): the same for any number of threads."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
        _, _, axes = np.linalg.svd(centred.T @ centred, hermitian=True)
        main = centred @ axes[:DIM].T
        start = main[:, :2] / max(main[:, 0].std(), 1e-12) * 1e-4
        if start.shape[1] < 2:
            start = np.pad(start, ((0, 0), (0, 1)))
        perplexity = min(30.0, (len(main) - 1) / 3)
        found = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=0, max_iter=350, n_jobs=1).fit_transform(main.astype(np.float32))
    low, high = found.min(0), found.max(0)
    return np.asarray((found - low) / np.maximum(high - low, 1e-12), np.float64)


def png(layers: list[tuple[NDArray[np.int_], int]]) -> bytes:
    """The map before and after, side by side, on white."""
    scale, dot = 4, 9
    canvas = Image.new("RGB", (2 * SIDE * scale, SIDE * scale), LIGHT.card)
    draw = ImageDraw.Draw(canvas)
    for shift, after in ((0, False), (SIDE * scale, True)):
        for places, hue in layers:
            colour = LIGHT.line if after and hue else LIGHT.hues[hue]
            for x, y in (places * scale).tolist():
                draw.ellipse((x + shift - dot, y - dot, x + shift + dot, y + dot), fill=colour)
    buffer = io.BytesIO()
    canvas.resize((2 * SIDE * 2, SIDE * 2), Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
