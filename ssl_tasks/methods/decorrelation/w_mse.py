"""Whitening for Self-Supervised Representation Learning (W-MSE). Ermolov, Siarohin, Sangineto, Sebe, 2020.
https://arxiv.org/abs/2007.06346
"""

from schemas.methods import WMSE as WMSEConfig
from ssl_tasks.method import Method


class WMSE(Method):
    """To be written."""

    config: WMSEConfig
