"""Distillation: students learn from a frozen teacher's features, without labels."""

from ssl_tasks.distill.stage import build, distill

__all__ = ["build", "distill"]
