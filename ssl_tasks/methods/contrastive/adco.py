"""AdCo: Adversarial Contrast for Efficient Learning of Unsupervised Representations from Self-Trained Negative Adversaries. Hu, Wang, Hu, Qi, 2020.
https://arxiv.org/abs/2011.08435
"""

from schemas.methods import AdCo as AdCoConfig
from ssl_tasks.method import Method


class AdCo(Method):
    """To be written."""

    config: AdCoConfig
