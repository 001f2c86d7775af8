"""MLflow models of trained networks: saved beside the run, registered, and asked over HTTP by `mlflow models serve`."""
