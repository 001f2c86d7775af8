"""Images generated, paired with references, measured and reported."""
