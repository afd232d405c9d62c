"""Colorful Image Colorization. Zhang, Isola, Efros, 2016.
https://arxiv.org/abs/1603.08511
"""

from schemas.methods import Colorization as ColorizationConfig
from ssl_tasks.method import Method


class Colorization(Method):
    """To be written."""

    config: ColorizationConfig
