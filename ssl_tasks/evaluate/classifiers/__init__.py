"""Protocols that judge a classifier's own head."""
