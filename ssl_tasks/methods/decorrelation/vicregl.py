"""VICRegL: Self-Supervised Learning of Local Visual Features. Bardes, Ponce, LeCun, 2022.
https://arxiv.org/abs/2210.01571
"""

from schemas.methods import VICRegL as VICRegLConfig
from ssl_tasks.method import Method


class VICRegL(Method):
    """To be written."""

    config: VICRegLConfig
