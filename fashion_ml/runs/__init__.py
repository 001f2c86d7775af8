"""From a checked experiment to a tracked, evaluated run, and what is done with runs afterwards."""
