"""Representation Learning via Invariant Causal Mechanisms (ReLIC). Mitrovic, McWilliams, Walker, Buesing, Blundell, 2020.
https://arxiv.org/abs/2010.07922
"""

from schemas.methods import ReLIC as ReLICConfig
from ssl_tasks.method import Method


class ReLIC(Method):
    """To be written."""

    config: ReLICConfig
