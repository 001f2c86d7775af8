"""`python -m fashion_ml` is the same as `fashion-ml`; MLproject uses it so that the checked-out code runs."""

from fashion_ml.cli import main

main()
