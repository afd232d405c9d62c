"""Distillation methods of the family `features`: one file a paper, none importing another."""
