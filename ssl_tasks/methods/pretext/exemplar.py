"""Discriminative Unsupervised Feature Learning with Exemplar Convolutional Neural Networks. Dosovitskiy, Fischer, Springenberg, Riedmiller, Brox, 2014.
https://arxiv.org/abs/1406.6909
"""

from schemas.methods import ExemplarCNN as ExemplarCNNConfig
from ssl_tasks.method import Method


class ExemplarCNN(Method):
    """To be written."""

    config: ExemplarCNNConfig
