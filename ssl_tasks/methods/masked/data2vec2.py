"""Efficient Self-supervised Learning with Contextualized Target Representations for Vision, Speech and Language (data2vec 2.0). Baevski, Babu, Hsu, Auli, 2022.
https://arxiv.org/abs/2212.07525
"""

from schemas.methods import Data2Vec2 as Data2Vec2Config
from ssl_tasks.method import Method


class Data2Vec2(Method):
    """To be written."""

    config: Data2Vec2Config
