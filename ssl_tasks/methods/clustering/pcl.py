"""Prototypical Contrastive Learning of Unsupervised Representations (PCL). Li, Zhou, Xiong, Hoi, 2020.
https://arxiv.org/abs/2005.04966
"""

from schemas.methods import PCL as PCLConfig
from ssl_tasks.method import Method


class PCL(Method):
    """To be written."""

    config: PCLConfig
