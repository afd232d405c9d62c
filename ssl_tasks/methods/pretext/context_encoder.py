"""Context Encoders: Feature Learning by Inpainting. Pathak, Kraehenbuehl, Donahue, Darrell, Efros, 2016.
https://arxiv.org/abs/1604.07379
"""

from schemas.methods import ContextEncoder as ContextEncoderConfig
from ssl_tasks.method import Method


class ContextEncoder(Method):
    """To be written."""

    config: ContextEncoderConfig
