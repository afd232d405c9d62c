"""Extracting and Composing Robust Features with Denoising Autoencoders. Vincent, Larochelle, Bengio, Manzagol, 2008.
https://www.jmlr.org/papers/v11/vincent10a.html
"""

from schemas.methods import DenoisingAutoencoder as DenoisingAutoencoderConfig
from ssl_tasks.method import Method


class DenoisingAutoencoder(Method):
    """To be written."""

    config: DenoisingAutoencoderConfig
