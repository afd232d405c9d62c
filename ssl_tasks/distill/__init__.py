"""Distillation: students learn from a frozen teacher, from each other, or from labels, several in one pass."""

from ssl_tasks.distill.stage import distill

__all__ = ["distill"]
