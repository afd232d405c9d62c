"""Dense Contrastive Learning for Self-Supervised Visual Pre-Training (DenseCL). Wang, Zhang, Shen, Kong, Li, 2020.
https://arxiv.org/abs/2011.09157
"""

from schemas.methods import DenseCL as DenseCLConfig
from ssl_tasks.method import Method


class DenseCL(Method):
    """To be written."""

    config: DenseCLConfig
