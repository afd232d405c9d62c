"""On the duality between contrastive and non-contrastive self-supervised learning (VICReg-exp). Garrido, Chen, Bardes, Najman, LeCun, 2022.
https://arxiv.org/abs/2206.02574
"""

from schemas.methods import VICRegExp as VICRegExpConfig
from ssl_tasks.method import Method


class VICRegExp(Method):
    """To be written."""

    config: VICRegExpConfig
