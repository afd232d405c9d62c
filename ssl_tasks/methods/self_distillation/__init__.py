"""Methods whose student predicts what a teacher, a moving average of itself or itself held still, says of another view."""
