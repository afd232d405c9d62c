"""Self-labelling via simultaneous clustering and representation learning (SeLa). Asano, Rupprecht, Vedaldi, 2019.
https://arxiv.org/abs/1911.05371
"""

from schemas.methods import SeLa as SeLaConfig
from ssl_tasks.method import Method


class SeLa(Method):
    """To be written."""

    config: SeLaConfig
