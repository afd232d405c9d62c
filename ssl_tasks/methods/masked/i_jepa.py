"""Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture (I-JEPA). Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas, 2023.
https://arxiv.org/abs/2301.08243
"""

from schemas.methods import IJEPA as IJEPAConfig
from ssl_tasks.method import Method


class IJEPA(Method):
    """To be written."""

    config: IJEPAConfig
