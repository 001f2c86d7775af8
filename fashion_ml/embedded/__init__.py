"""The embedded default: a small world of garments and the models trained on it, so that nothing needs a download."""
