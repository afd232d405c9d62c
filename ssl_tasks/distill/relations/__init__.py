"""Distillation methods of the family `relations`: one file a paper, none importing another."""
