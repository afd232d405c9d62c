"""Protocols that ask what is left of an accuracy elsewhere."""
