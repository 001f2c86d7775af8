"""Every experiment setting, and how a YAML file and overrides become one frozen, checked object."""

from fashion_ml.config.loading import checked, flat, load_config, load_experiment, to_yaml, validate, validate_evaluation
from fashion_ml.config.lora import SHORT_NAMES, Data, LoraExperiment, Optimizer
from fashion_ml.config.shared import Evaluation, Section

__all__ = [
    "SHORT_NAMES",
    "Data",
    "Evaluation",
    "LoraExperiment",
    "Optimizer",
    "Section",
    "checked",
    "flat",
    "load_config",
    "load_experiment",
    "to_yaml",
    "validate",
    "validate_evaluation",
]
