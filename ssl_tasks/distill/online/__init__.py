"""Distillation methods of the family `online`: one file a paper, none importing another."""
