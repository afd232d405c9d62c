"""Masked Siamese Networks for Label-Efficient Learning (MSN). Assran, Caron, Misra, Bojanowski, Bordes, Vincent, Joulin, Rabbat, Ballas, 2022.
https://arxiv.org/abs/2204.07141
"""

from schemas.methods import MSN as MSNConfig
from ssl_tasks.method import Method


class MSN(Method):
    """To be written."""

    config: MSNConfig
