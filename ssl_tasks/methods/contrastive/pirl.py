"""Self-Supervised Learning of Pretext-Invariant Representations (PIRL). Misra, van der Maaten, 2019.
https://arxiv.org/abs/1912.01991
"""

from schemas.methods import PIRL as PIRLConfig
from ssl_tasks.method import Method


class PIRL(Method):
    """To be written."""

    config: PIRLConfig
