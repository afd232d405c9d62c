"""The grid that a linear probe chose its head from, as a figure: held-out accuracy by learning rate and by what a head reads."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from schemas.protocols.frozen import LinearProbe
from ssl_tasks.evaluate import results
from ssl_tasks.evaluate.findings import Plate
from ssl_tasks.evaluate.report.palette import WIDTH
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.report.theme import Theme


def plate(protocol: LinearProbe, subject: Subject, cells: Sequence[tuple[str, str]], accuracies: Sequence[float], held: int) -> Plate:
    """The figure, and in its words which head was chosen.

    Args:
        cells: of each head what it reads and its learning rate, as they are shown.
        accuracies: of each head on the held-out images; the first of the best was chosen.
        held: how many these are.
    """
    rows, columns = (list(dict.fromkeys(each)) for each in zip(*cells, strict=True))
    shares = np.full((len(rows), len(columns)), np.nan)
    for (row, column), accuracy in zip(cells, accuracies, strict=True):
        shares[rows.index(row), columns.index(column)] = accuracy
    best = cells[int(np.argmax(accuracies))]
    twins = subject.world.stage.protocols
    called = next((name for name, twin in zip(results.names(twins), twins, strict=True) if twin == protocol), protocol.kind)
    caption = (
        f"Percent of {held:,} held-out train images that each linear head of the grid gets right; columns are learning rates for a batch of 256. "
        f"Chosen (framed): {best[0]}, learning rate {best[1]}, with {max(accuracies):.1%}. Test images had no say."
    )
    return Plate(
        f"{called}-{subject.name}",
        "results",
        f"Linear probe, the heads to choose from: {subject.name}",
        caption,
        lambda theme: draw(shares, rows, columns, theme),
    )


def draw(shares: NDArray[np.floating], rows: Sequence[str], columns: Sequence[str], theme: Theme) -> Figure:
    """A heat map with each share in percent; the first of the largest is framed.

    Args:
        shares: (rows, columns), between 0 and 1.
    """
    figure = Figure(figsize=(WIDTH, 0.7 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    low, high = float(shares.min()), float(shares.max())
    axes.imshow(shares, cmap=LinearSegmentedColormap.from_list("share", [theme.card, theme.hues[0]]), vmin=low - 0.02, vmax=high + 0.02, aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        deep = share > (low + high) / 2
        axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=7.5, color=theme.card if deep and high > low else theme.ink)
    i, j = np.unravel_index(int(np.argmax(shares)), shares.shape)
    axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=theme.ink, linewidth=1.6, clip_on=False))
    axes.set_xticks(range(len(columns)), columns, rotation=45)
    axes.set_yticks(range(len(rows)), [row.replace(", ", "\n") for row in rows])
    axes.set_xlabel("learning rate", fontsize=8, color=theme.muted)
    axes.tick_params(length=0, labelsize=8, colors=theme.muted)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure
