"""Unsupervised Representation Learning by Predicting Image Rotations (RotNet). Gidaris, Singh, Komodakis, 2018.
https://arxiv.org/abs/1803.07728
"""

from schemas.methods import RotNet as RotNetConfig
from ssl_tasks.method import Method


class RotNet(Method):
    """To be written."""

    config: RotNetConfig
