"""How well a mask was found, as DAVIS judges it: region similarity J and boundary measure F.

Perazzi et al., 2016, https://graphics.ethz.ch/~perazzif/davis/files/davis.pdf, section 4; settings of the benchmark of 2017,
https://arxiv.org/abs/1704.00675. All in float64.
"""

import math

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

TOLERANCE = 0.008
"""How far a boundary may be off, as a share of the image's diagonal, rounded up to whole pixels."""


def region(found: Mask, truth: Mask) -> float:
    """J: pixels in both masks over those in either, (H, W) each; 1 where both are empty."""
    either = int((found | truth).sum())
    return int((found & truth).sum()) / either if either else 1.0


def boundary(found: Mask, truth: Mask) -> float:
    """F: harmonic mean of the shares of either boundary that lie near the other; 1 where there are none, 0 where only one mask has any."""
    edges, true_edges = _edges(found), _edges(truth)
    if not edges.any() or not true_edges.any():
        return float(edges.any() == true_edges.any())
    reach = math.ceil(TOLERANCE * math.hypot(*found.shape))
    precision, recall = _near(edges, true_edges, reach), _near(true_edges, edges, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _edges(mask: Mask) -> Mask:
    """Pixels that differ from the one to the right, below, or below to the right."""
    padded = np.pad(mask, (0, 1), mode="edge")
    return (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])


def _near(edges: Mask, others: Mask, reach: int) -> float:
    """Share of `edges` within so many pixels of any of `others`."""
    from scipy.ndimage import distance_transform_edt

    return float((distance_transform_edt(~others)[edges] <= reach).mean())
