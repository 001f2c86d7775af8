"""How the embedded models were made: `python -m fashion_ml.embedded.making OUT_DIR` repeats it (see docs/embedded.md)."""
