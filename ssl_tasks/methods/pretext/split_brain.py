"""Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction. Zhang, Isola, Efros, 2016.
https://arxiv.org/abs/1611.09842
"""

from schemas.methods import SplitBrain as SplitBrainConfig
from ssl_tasks.method import Method


class SplitBrain(Method):
    """To be written."""

    config: SplitBrainConfig
