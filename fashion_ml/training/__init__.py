"""One visible loop for each trainer."""
