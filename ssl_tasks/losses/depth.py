"""Depth. Shapes: any, the same for all three tensors of a loss."""

from torch import Tensor

from ssl_tasks.losses.precision import full_precision

_SMALL = 1e-3
"""Metres that are added before a logarithm."""
_LEAST = 1e-12
"""Under the root: where the prediction is perfect its gradient would be infinite."""


@full_precision
def scale_invariant_log(predicted: Tensor, target: Tensor, valid: Tensor, spread: bool = True) -> Tensor:
    """Root of var(g) + 0.15 mean(g)^2 over the valid pixels of a batch, g = log predicted - log target.

    https://arxiv.org/abs/1406.2283, equation 4, under a root and with most of the error in scale forgiven, as BTS (https://arxiv.org/abs/1907.10326,
    equation 3) has it. Zero where no pixel is valid.

    Args:
        predicted, target: metres, above 0.
        valid: whether the target is known.
        spread: whether the variance counts; without it only the scale is fitted.
    """
    if not valid.any():
        return 0 * predicted.sum()
    error = (predicted[valid] + _SMALL).log() - (target[valid] + _SMALL).log()
    squared = 0.15 * error.mean() ** 2
    if spread:
        squared = squared + error.var(correction=0)
    return squared.clamp_min(_LEAST).sqrt()
