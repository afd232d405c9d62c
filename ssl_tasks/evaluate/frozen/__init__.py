"""Protocols that classify frozen features."""
