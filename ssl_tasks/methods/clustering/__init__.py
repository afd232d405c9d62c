"""Methods that predict the cluster of one view from another."""
