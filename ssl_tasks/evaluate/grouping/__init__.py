"""Protocols that order images by their features alone: clusters, retrieval, copies."""
