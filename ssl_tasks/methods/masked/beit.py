"""BEiT: BERT Pre-Training of Image Transformers. Bao, Dong, Piao, Wei, 2021.
https://arxiv.org/abs/2106.08254
"""

from schemas.methods import BEiT as BEiTConfig
from ssl_tasks.method import Method


class BEiT(Method):
    """To be written."""

    config: BEiTConfig
