"""What is known of images besides their class, read from where a config says that it lies: masks, depths, boxes, points, videos.

Everything is of the image as it is seen: upright, at its own size. An image is known by its path: see `pictures.Names`.
"""
