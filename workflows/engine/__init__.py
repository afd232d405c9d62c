"""Adapters: one file per third party, and only that file imports it."""
