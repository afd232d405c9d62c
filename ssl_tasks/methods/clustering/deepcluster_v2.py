"""Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (DeepCluster-v2). Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, 2020.
https://arxiv.org/abs/2006.09882
"""

from schemas.methods import DeepClusterV2 as DeepClusterV2Config
from ssl_tasks.method import Method


class DeepClusterV2(Method):
    """To be written."""

    config: DeepClusterV2Config
