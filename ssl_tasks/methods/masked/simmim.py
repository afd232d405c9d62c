"""SimMIM: A Simple Framework for Masked Image Modeling. Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, 2021.
https://arxiv.org/abs/2111.09886
"""

from schemas.methods import SimMIM as SimMIMConfig
from ssl_tasks.method import Method


class SimMIM(Method):
    """To be written."""

    config: SimMIMConfig
