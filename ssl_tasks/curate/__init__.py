"""Curation: which images of a pool training may use. Each step decides; `stage.py` applies what it decided."""

from ssl_tasks.curate.stage import curate

__all__ = ["curate"]
