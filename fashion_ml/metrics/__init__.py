"""Image metrics: pure functions over arrays; encoders are arguments."""
