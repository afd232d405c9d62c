"""Tokenizers: a discrete VAE learns to tell a dataset's images in words of a vocabulary of its own."""

from ssl_tasks.tokenizer.stage import train_tokenizer

__all__ = ["train_tokenizer"]
