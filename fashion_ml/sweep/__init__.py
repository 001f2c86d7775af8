"""Sweeps: search space -> trial -> training run -> objective."""
