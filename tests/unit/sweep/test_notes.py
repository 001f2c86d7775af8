from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fashion_ml.config import load_sweep, to_yaml
from fashion_ml.config.shipped_files import shipped
from fashion_ml.errors import InputError
from fashion_ml.sweep.best_settings import best_experiment
from fashion_ml.sweep.notes import check_base


def sweep(folder: Path, network: dict[str, Any] | None = None, **settings: Any) -> tuple[Any, Any]:
    experiment = {"name": "x", "data": {"train_data_dir": "embedded"}, "network": network or {"rank": 4}}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")
    tree = {
        "name": "s",
        "trainer": "lora",
        "experiment": "experiment.yaml",
        "settings": settings,
        "search_space": {"network.rank": {"type": "categorical", "choices": [2, 8]}},
        "objectives": [{"metric": "weighted_total_loss"}],
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return load_sweep(folder / "sweep.yaml", {})


@pytest.mark.parametrize(
    ("network", "settings", "warned"),
    [
        ({"rank": 4}, {}, False),
        ({"rank": 4, "alpha": 4}, {}, True),
        ({"rank": 4}, {"network.alpha": 2}, True),
        ({"rank": 4, "convolutions": True}, {}, False),
        ({"rank": 4, "convolutions": True, "conv_alpha": 4}, {}, True),
        ({"rank": 4, "convolutions": True, "conv_rank": 2, "conv_alpha": 4}, {}, False),
        ({"rank": 4, "alpha": 4}, {"alpha": None}, False),
    ],
)
def test_an_alpha_that_stands_still_while_ranks_are_searched_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, network: dict[str, Any], settings: dict[str, Any], warned: bool
):
    check_base(*sweep(tmp_path, network, **settings))
    assert ["alpha: is fixed at " in line and "while network.rank is searched" in line for line in caplog.messages] == [
        True
    ] * warned


def test_the_shipped_sweep_over_rank_fixes_no_alpha_and_says_so(caplog: pytest.LogCaptureFixture):
    path = shipped("sweeps/lora_rank_lr.yaml")
    assert path is not None
    check_base(*load_sweep(path, {}))
    assert caplog.messages == []
    assert "# alpha follows the rank" in path.read_text(encoding="utf-8")


def test_the_trials_and_the_best_settings_have_the_alpha_of_their_rank(tmp_path: Path):
    spec, base = sweep(tmp_path)
    (tmp_path / "base.yaml").write_text(to_yaml(base), encoding="utf-8")

    class Trial:
        params = {"network.rank": 8}  # noqa: RUF012

    assert best_experiment(spec, Trial(), tmp_path / "base.yaml").network.alpha == 8  # type: ignore[arg-type]


def test_trials_of_an_own_base_are_not_measured_by_the_toy_encoder_unless_it_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"evaluation\.encoder: embedded is a toy"):
        check_base(*sweep(tmp_path, **{"model.base": "mine"}))
    check_base(*sweep(tmp_path, **{"model.base": "mine", "evaluation.encoder": "embedded"}))


@pytest.mark.parametrize(
    ("metric", "settings", "says"),
    [
        ("lpips", {}, "objectives: 'lpips' is not measured by this experiment; add lpips to evaluation.extra_metrics"),
        ("leak", {}, "objectives: 'leak' is not measured by this experiment; give evaluation.prompts"),
        (
            "fashion_clip_loss",
            {"evaluation.without": ["fashion_clip"]},
            "'fashion_clip_loss' is not measured without an encoder",
        ),
    ],
)
def test_what_the_experiment_does_not_measure_is_refused_before_any_trial(
    tmp_path: Path, metric: str, settings: dict[str, Any], says: str
):
    spec, base = sweep(tmp_path, **settings)
    chosen = spec.model_copy(update={"objectives": (spec.objectives[0].model_copy(update={"metric": metric}),)})
    with pytest.raises(InputError, match=re.escape(says)):
        check_base(chosen, base)
    check_base(*sweep(tmp_path))
