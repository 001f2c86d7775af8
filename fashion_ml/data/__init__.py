"""Training and reference images on disk, and the order they are seen in."""
