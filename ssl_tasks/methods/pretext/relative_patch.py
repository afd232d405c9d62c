"""Unsupervised Visual Representation Learning by Context Prediction. Doersch, Gupta, Efros, 2015.
https://arxiv.org/abs/1505.05192
"""

from schemas.methods import RelativePatch as RelativePatchConfig
from ssl_tasks.method import Method


class RelativePatch(Method):
    """To be written."""

    config: RelativePatchConfig
