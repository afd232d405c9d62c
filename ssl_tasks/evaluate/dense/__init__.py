"""Protocols that read patches."""
