"""data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language. Baevski, Hsu, Xu, Babu, Gu, Auli, 2022.
https://arxiv.org/abs/2202.03555
"""

from schemas.methods import Data2Vec as Data2VecConfig
from ssl_tasks.method import Method


class Data2Vec(Method):
    """To be written."""

    config: Data2VecConfig
