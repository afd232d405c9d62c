"""Methods that tell the views of an image from those of other images."""
