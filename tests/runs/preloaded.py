"""What commands need, imported once, by the process that all forked ones are copies of: it takes seconds."""

from __future__ import annotations

import gc

import alembic.command
import diffusers
import ftfy
import matplotlib.backends.backend_agg
import matplotlib.pyplot as plt
import mlflow.store.tracking.sqlalchemy_store
import mlflow.tracking
import open_clip
import optuna
import pandas as pd
import rich.syntax
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UniPCMultistepScheduler
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

import fashion_ml.evaluation.log_evaluation
import fashion_ml.reports.training_report
import fashion_ml.runs.check_inputs
import fashion_ml.runs.dry_run
import fashion_ml.runs.lora
import fashion_ml.runs.stargan
import fashion_ml.sweep.local_workers
import fashion_ml.sweep.suite
import fashion_ml.sweep.trial
import fashion_ml.training.lora_loop
import fashion_ml.training.stargan_loop
import tests.no_disk
import tests.runs.forked

__all__ = [
    "Accelerator",
    "CLIPTextModel",
    "CLIPTokenizer",
    "DDPMScheduler",
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "UniPCMultistepScheduler",
    "alembic",
    "diffusers",
    "fashion_ml",
    "ftfy",
    "matplotlib",
    "mlflow",
    "open_clip",
    "optuna",
    "pd",
    "plt",
    "rich",
    "tests",
    "torch",
]

torch.set_num_threads(1)
tests.no_disk.wait_for_no_disk()
Image.init()
gc.freeze()  # else each `gc.collect()` of a copy looks at two million objects of modules, and makes pages of them its own
