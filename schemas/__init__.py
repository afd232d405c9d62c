"""The vocabulary: what a pipeline's YAML may say, and what its stages hand over. Never imports torch or numpy."""
