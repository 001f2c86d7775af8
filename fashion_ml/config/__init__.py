"""Every experiment setting, and how a YAML file and overrides become one frozen, checked object."""

from fashion_ml.config.loading import checked, flat, load_config, load_experiment, to_yaml, validate, validate_evaluation
from fashion_ml.config.lora import SHORT_NAMES, Data, LoraExperiment, Optimizer
from fashion_ml.config.shared import Evaluation, Section
from fashion_ml.config.stargan import STARGAN_SHORT_NAMES, StarganExperiment

__all__ = [
    "SHORT_NAMES",
    "STARGAN_SHORT_NAMES",
    "Data",
    "Evaluation",
    "LoraExperiment",
    "Optimizer",
    "Section",
    "StarganExperiment",
    "checked",
    "flat",
    "load_config",
    "load_experiment",
    "to_yaml",
    "validate",
    "validate_evaluation",
]
