"""Contrastive Learning with Stronger Augmentations (CLSA). Wang, Qi, 2021.
https://arxiv.org/abs/2104.07713
"""

from schemas.methods import CLSA as CLSAConfig
from ssl_tasks.method import Method


class CLSA(Method):
    """To be written."""

    config: CLSAConfig
