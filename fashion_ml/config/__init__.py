"""Every experiment setting, and how a YAML file and overrides become one frozen, checked object."""

from fashion_ml.config.base import Evaluation, Section
from fashion_ml.config.loading import (
    checked,
    evaluated_again,
    flat,
    laid_over,
    load_config,
    load_experiment,
    of_evaluation,
    paths_given,
    to_yaml,
    validate,
    validate_evaluation,
)
from fashion_ml.config.lora import SHORT_NAMES, Data, LoraExperiment
from fashion_ml.config.lora_loss import Loss
from fashion_ml.config.lora_optimizer import Optimizer
from fashion_ml.config.settings import Setting, evaluation_settings, settings_of, short_names
from fashion_ml.config.stargan import STARGAN_SHORT_NAMES, StarganExperiment
from fashion_ml.config.subsets import Subset
from fashion_ml.config.suite import SuiteRecipe, SuiteSpec, differing, load_suite, suite_experiments, suite_spec
from fashion_ml.config.sweep import EXPERIMENTS, KINDS, Dimension, SweepSpec, as_overrides, load_sweep, read_constraint

__all__ = [
    "EXPERIMENTS",
    "KINDS",
    "SHORT_NAMES",
    "STARGAN_SHORT_NAMES",
    "Data",
    "Dimension",
    "Evaluation",
    "LoraExperiment",
    "Loss",
    "Optimizer",
    "Section",
    "Setting",
    "StarganExperiment",
    "Subset",
    "SuiteRecipe",
    "SuiteSpec",
    "SweepSpec",
    "as_overrides",
    "checked",
    "differing",
    "evaluated_again",
    "evaluation_settings",
    "flat",
    "laid_over",
    "load_config",
    "load_experiment",
    "load_suite",
    "load_sweep",
    "of_evaluation",
    "paths_given",
    "read_constraint",
    "settings_of",
    "short_names",
    "suite_experiments",
    "suite_spec",
    "to_yaml",
    "validate",
    "validate_evaluation",
]
