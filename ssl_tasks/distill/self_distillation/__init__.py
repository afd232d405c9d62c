"""Distillation methods of the family `self-distillation`: one file a paper, none importing another."""
