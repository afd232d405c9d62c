"""Methods without negatives that keep the dimensions of an embedding apart."""
