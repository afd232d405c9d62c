"""Unsupervised Feature Learning via Non-Parametric Instance Discrimination. Wu, Xiong, Yu, Lin, 2018.
https://arxiv.org/abs/1805.01978
"""

from schemas.methods import InstanceDiscrimination as InstanceDiscriminationConfig
from ssl_tasks.method import Method


class InstanceDiscrimination(Method):
    """To be written."""

    config: InstanceDiscriminationConfig
