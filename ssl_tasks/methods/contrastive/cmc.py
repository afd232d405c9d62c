"""Contrastive Multiview Coding (CMC). Tian, Krishnan, Isola, 2019.
https://arxiv.org/abs/1906.05849
"""

from schemas.methods import CMC as CMCConfig
from ssl_tasks.method import Method


class CMC(Method):
    """To be written."""

    config: CMCConfig
