"""What everything else stands on: files, signals, seeds, processes, the console, provenance."""
