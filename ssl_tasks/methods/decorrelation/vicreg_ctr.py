"""On the duality between contrastive and non-contrastive self-supervised learning (VICReg-ctr). Garrido, Chen, Bardes, Najman, LeCun, 2022.
https://arxiv.org/abs/2206.02574
"""

from schemas.methods import VICRegCtr as VICRegCtrConfig
from ssl_tasks.method import Method


class VICRegCtr(Method):
    """To be written."""

    config: VICRegCtrConfig
