"""Understanding Dimensional Collapse in Contrastive Self-supervised Learning (DirectCLR). Jing, Vincent, LeCun, Tian, 2021.
https://arxiv.org/abs/2110.09348
"""

from schemas.methods import DirectCLR as DirectCLRConfig
from ssl_tasks.method import Method


class DirectCLR(Method):
    """To be written."""

    config: DirectCLRConfig
