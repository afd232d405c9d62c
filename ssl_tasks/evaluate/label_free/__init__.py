"""Protocols that need no labels."""
