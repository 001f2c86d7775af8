from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fashion_ml.config import load_sweep, to_yaml
from fashion_ml.config.shipped_files import shipped
from fashion_ml.errors import InputError
from fashion_ml.sweep.notes import check_base
from fashion_ml.sweep.report import best_experiment


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
        ({"rank": 4, "alpha": 4}, {"alpha": None}, False),
    ],
)
def test_an_alpha_that_stands_still_while_ranks_are_searched_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, network: dict[str, Any], settings: dict[str, Any], warned: bool
):
    check_base(*sweep(tmp_path, network, **settings))
    assert [line.startswith("network.alpha: is fixed at ") for line in caplog.messages] == [True] * warned


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


@pytest.mark.parametrize(("count", "most", "warned"), [(11, 32, True), (12, 32, False), (40, 10, True), (40, 12, False)])
def test_too_few_references_to_confirm_by_are_warned_of_before_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, most: int, warned: bool
):
    (tmp_path / "references").mkdir()
    for number in range(count):
        (tmp_path / "references" / f"{number}.png").write_bytes(b"")
    settings = {"evaluation.references": str(tmp_path / "references"), "evaluation.max_references": most}
    spec, base = sweep(tmp_path, **settings, **{"evaluation.encoder": "embedded"})
    check_base(spec, base)
    lines = [line for line in caplog.messages if line.startswith("confirm.references: 5 references are held back")]
    assert len(lines) == warned
    check_base(spec.model_copy(update={"confirm": spec.confirm.model_copy(update={"best": 0})}), base)
    assert len([line for line in caplog.messages if line.startswith("confirm.references")]) == warned
