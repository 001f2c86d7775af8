"""Sweeps and suites: what is searched or compared -> trial -> training run -> its value."""
