"""Protocols that train the encoder itself."""
