"""What a model takes to run."""
