"""Equivariant Contrastive Learning (E-SSL). Dangovski, Jing, Loh, Han, Srivastava, Cheung, Agrawal, Soljacic, 2021.
https://arxiv.org/abs/2111.00899
"""

from schemas.methods import ESSL as ESSLConfig
from ssl_tasks.method import Method


class ESSL(Method):
    """To be written."""

    config: ESSLConfig
