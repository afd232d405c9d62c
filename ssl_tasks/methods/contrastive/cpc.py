"""Representation Learning with Contrastive Predictive Coding (CPC). van den Oord, Li, Vinyals, 2018.
https://arxiv.org/abs/1807.03748
"""

from schemas.methods import CPC as CPCConfig
from ssl_tasks.method import Method


class CPC(Method):
    """To be written."""

    config: CPCConfig
