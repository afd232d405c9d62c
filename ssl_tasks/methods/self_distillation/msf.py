"""Mean Shift for Self-Supervised Learning (MSF). Koohpayegani, Tejankar, Pirsiavash, 2021.
https://arxiv.org/abs/2105.07269
"""

from schemas.methods import MSF as MSFConfig
from ssl_tasks.method import Method


class MSF(Method):
    """To be written."""

    config: MSFConfig
