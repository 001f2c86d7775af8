"""What a training run leaves for people to read."""
