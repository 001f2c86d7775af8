"""From a checked experiment to a tracked, evaluated run."""
