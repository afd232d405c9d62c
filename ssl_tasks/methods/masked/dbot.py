"""Exploring Target Representations for Masked Autoencoders (dBOT). Liu, Zhou, Kong, Lin, Ji, 2022.
https://arxiv.org/abs/2209.03917
"""

from schemas.methods import DBOT as DBOTConfig
from ssl_tasks.method import Method


class DBOT(Method):
    """To be written."""

    config: DBOTConfig
