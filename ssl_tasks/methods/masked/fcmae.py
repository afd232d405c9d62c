"""ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders (FCMAE). Woo, Debnath, Hu, Chen, Liu, Kweon, Xie, 2023.
https://arxiv.org/abs/2301.00808
"""

from schemas.methods import FCMAE as FCMAEConfig
from ssl_tasks.method import Method


class FCMAE(Method):
    """To be written."""

    config: FCMAEConfig
