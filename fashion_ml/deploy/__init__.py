"""Networks for other programs: files, MLflow models, versions in the registry."""
