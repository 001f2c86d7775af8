"""Experiments of kohya's sd-scripts and of the kohya_ss GUI as settings of this project: files, command lines, and what has no equal."""
