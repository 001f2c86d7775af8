"""What the adapter takes from accelerate's inside is there in the installed version; a failure names that version."""

from __future__ import annotations

import accelerate
import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from fashion_ml.training.accelerate_private import forget_precision


def test_a_process_may_train_in_another_precision_after_its_first():
    if not hasattr(AcceleratorState, "_reset_state"):
        pytest.fail(
            f"accelerate {accelerate.__version__} no longer has _reset_state: see fashion_ml/training/accelerate_private.py"
        )
    forget_precision()
    assert Accelerator(mixed_precision="bf16", cpu=True).mixed_precision == "bf16"
    with pytest.raises(ValueError, match="already been initialized"):
        Accelerator(mixed_precision="no", cpu=True)
    forget_precision()
    assert Accelerator(mixed_precision="no", cpu=True).mixed_precision == "no"
