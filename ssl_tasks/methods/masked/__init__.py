"""Methods that predict the masked part of an image from the rest."""
