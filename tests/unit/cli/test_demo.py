"""What the demo draws while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fashion_ml.cli import train
from fashion_ml.config import load_config


@pytest.mark.parametrize(("asked", "every"), [((), 600), (("training.sample_every=9",), 9)])
def test_the_demo_draws_samples_as_it_trains_and_its_options_go_first(
    monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], every: int
):
    given: list[tuple[Any, Mapping[str, Any]]] = []
    monkeypatch.setattr(train, "_train_lora", lambda config, overrides, json: given.append((config, overrides)))
    train.demo(seed="1", set_=list(asked))
    ((config, overrides),) = given
    training = load_config(config, overrides).training
    assert training.sample_every == every
    assert training.max_train_steps % 600 == 0
    assert all("zarya style" in prompt for prompt in training.sample_prompts)
