"""Speed, side by side, runnable by anyone."""
