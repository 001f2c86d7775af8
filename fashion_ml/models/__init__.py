"""The networks that are trained and how their files are read and written."""
