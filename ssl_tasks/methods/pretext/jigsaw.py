"""Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles (CFN). Noroozi, Favaro, 2016.
https://arxiv.org/abs/1603.09246
"""

from schemas.methods import Jigsaw as JigsawConfig
from ssl_tasks.method import Method


class Jigsaw(Method):
    """To be written."""

    config: JigsawConfig
