"""With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual Representations (NNCLR). Dwibedi, Aytar, Tompson, Sermanet, Zisserman, 2021.
https://arxiv.org/abs/2104.14548
"""

from schemas.methods import NNCLR as NNCLRConfig
from ssl_tasks.method import Method


class NNCLR(Method):
    """To be written."""

    config: NNCLRConfig
