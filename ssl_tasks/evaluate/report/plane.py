"""Features in the plane, near where they are near: the map of every report, and of the protocol `embedding_map`."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.split import Split

MAPPED = 400
"""Images in a map."""
FEWEST = 10
"""Images below which there is nothing to lay out."""
NAMES = {"tsne": "t-SNE", "umap": "UMAP"}


def sample(parts: Split, seed: int, count: int = MAPPED) -> Ints:
    """Rows of the table that are mapped, the same for all models: of the test split, or else of the train split."""
    pool = parts.queries if len(parts.queries) else parts.train
    return np.sort(np.random.default_rng(seed).permutation(pool)[:count])


def places(features: Floats, seed: int, by: Literal["tsne", "umap"] = "tsne") -> NDArray[np.floating]:
    """L2-normalised features (N, D) in the plane, (N, 2), seeded.

    t-SNE, https://jmlr.org/papers/v9/vandermaaten08a.html, or UMAP, https://arxiv.org/abs/1802.03426.

    Raises:
        UserError: where UMAP is asked for and not installed.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if len(unit) < FEWEST:
        return np.pad(unit, ((0, 0), (0, 2)))[:, :2]
    if by == "umap":
        return _umap(unit, seed)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(unit) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=seed, max_iter=500).fit_transform(unit))


def _umap(unit: Floats, seed: int) -> NDArray[np.floating]:
    try:
        from umap import UMAP
    except ImportError as error:
        raise UserError("a map by umap needs umap-learn: install sslflow with its extra `evaluate`, or set `by: tsne`") from error
    neighbours = min(15, len(unit) - 1)
    return np.asarray(UMAP(n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1).fit_transform(unit))


def caption(parts: Split, images: int, by: Literal["tsne", "umap"]) -> str:
    """What a map shows."""
    what = "test" if len(parts.queries) else "train"
    colour = f"coloured by class, which {NAMES[by]} was not told" if parts.classes else "without labels to colour them by"
    return f"{NAMES[by]} of the features of {images:,} {what} images, {colour}. Distances between groups mean nothing."
