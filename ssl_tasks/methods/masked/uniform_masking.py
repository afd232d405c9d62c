"""Uniform Masking: Enabling MAE Pre-training for Pyramid-based Vision Transformers with Locality (UM-MAE). Li, Wang, Zhang, Wang, Yang, Li, 2022.
https://arxiv.org/abs/2205.10063
"""

from schemas.methods import UniformMasking as UniformMaskingConfig
from ssl_tasks.method import Method


class UniformMasking(Method):
    """To be written."""

    config: UniformMaskingConfig
