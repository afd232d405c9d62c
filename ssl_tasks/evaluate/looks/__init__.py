"""Protocols that make pictures."""
