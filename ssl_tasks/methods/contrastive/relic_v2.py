"""Pushing the limits of self-supervised ResNets: Can we outperform supervised learning without labels on ImageNet? (ReLICv2). Tomasev, Bica, McWilliams, Buesing, Pascanu, Blundell, Mitrovic, 2022.
https://arxiv.org/abs/2201.05119
"""

from schemas.methods import ReLICv2 as ReLICv2Config
from ssl_tasks.method import Method


class ReLICv2(Method):
    """To be written."""

    config: ReLICv2Config
