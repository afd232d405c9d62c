"""Masked Feature Prediction for Self-Supervised Visual Pre-Training (MaskFeat). Wei, Fan, Xie, Wu, Yuille, Feichtenhofer, 2021.
https://arxiv.org/abs/2112.09133
"""

from schemas.methods import MaskFeat as MaskFeatConfig
from ssl_tasks.method import Method


class MaskFeat(Method):
    """To be written."""

    config: MaskFeatConfig
