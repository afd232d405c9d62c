"""Evaluate: judge models by protocols, beside baselines, and write one report. The stage is in `stage.py`: what needs no network imports without torch."""
