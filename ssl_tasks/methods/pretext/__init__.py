"""Methods that predict the pretext part of an image from the rest."""
