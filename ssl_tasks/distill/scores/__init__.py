"""Distillation methods of the family `scores`: one file a paper, none importing another."""
