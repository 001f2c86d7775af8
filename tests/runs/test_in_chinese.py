"""A run in Traditional Chinese: its screens and the heads of its reports hold no English sentence, and its numbers are those of English."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from mlflow import MlflowClient

from fashion_ml.cli import app
from fashion_ml.embedded.garments import Garment, render
from fashion_ml.runtime.language import VARIABLE
from tests.runs.chinese import english, shown
from tests.runs.command import Finished, fashion_ml

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error:Glyph")]  # a figure without a font for it

COMMANDS = {
    "runs": "runs",
    "show": "show RUN --no-open",
    "data": "data outputs/COLLECTION/train",
    "split": "split outputs/COLLECTION/train --references 2 --out apart",
    "caption": "caption bare --encoder embedded --dry-run",
    "prior": "prior --prompt 'a dress' --count 1 --steps 1 --output before",
    "encode": "encode domains latents",
    "embedded collection": "embedded collection drawn",
    "export": "export RUN exported.safetensors --format kohya",
    "inspect": "inspect FILE --picture where.png",
    "merge": "merge FILE FILE --output merged.safetensors",
    "resize": "resize FILE --rank 2 --output small.safetensors",
    "extract": "extract embedded embedded --rank 1 --output between.safetensors",
    "import": "import kohya.toml --out own.yaml",
    "evaluate lora": "evaluate lora FILE --references outputs/COLLECTION/references --max-references 2 --num-inference-steps 1 --prompts none",
    "evaluate images": "evaluate images --generated domains/a --reference domains/a --encoder embedded",
    "doctor": "doctor",
    "register": "register RUN --name look",
    "demo": "demo --set training.max_train_steps=3 --set evaluation.enabled=false",
    "train lora": "train lora --dry-run",
    "train stargan": "train stargan --latents-dir latents --vae embedded --dry-run",
}
"""Each tried in Chinese on a finished training."""
ELSEWHERE = {
    "evaluate run": "test_in_chinese.py",
    "evaluate choose": "test_choose.py",
    "reproduce": "test_register.py",
    "compare": "test_evaluate.py",
    "sync": "test_ending.py",
}
NOT_RUN = {"ui", "serve", "sweep", "sweep-report", "sweep-worker", "suite", "suite-report", "suite-worker"}
"""Of these only tests/contract/test_catalogue.py holds what is said: they answer until they are stopped, or take many trainings."""


@pytest.fixture(scope="module")
def own(finished: Finished) -> Finished:
    """The finished training with what the commands read."""
    for domain in "ab":
        (finished.folder / "domains" / domain).mkdir(parents=True)
        for seed in range(2):
            render(Garment("dress", "red", "plain", seed=seed)).save(finished.folder / "domains" / domain / f"{seed}.png")
            (finished.folder / "domains" / domain / f"{seed}.txt").write_text("a red dress", encoding="utf-8")
    shutil.copytree(finished.folder / "domains" / "a", finished.folder / "bare", ignore=shutil.ignore_patterns("*.txt"))
    toml = 'network_module = "networks.lora"\nnetwork_dim = 8\nmax_train_steps = 10\nface_crop_aug_range = "2,4"\nxformers = true\n'
    (finished.folder / "kohya.toml").write_text(toml, encoding="utf-8")
    return finished


def test_every_command_is_tried_in_chinese_here_or_beside_its_finished_run():
    assert sorted({*COMMANDS, *ELSEWHERE, *NOT_RUN}) == sorted(_commands(typer.main.get_command(app)))
    for command, name in ELSEWHERE.items():
        text = (Path(__file__).parent / name).read_text(encoding="utf-8")
        assert f'"{command.split()[-1]}"' in text, command
        assert "english(" in text, command


def _commands(group: Any, before: str = "") -> list[str]:
    below = group.commands.items()
    return [
        one
        for name, command in below
        for one in (_commands(command, f"{name} ") if hasattr(command, "commands") else [f"{before}{name}"])
    ]


def _kept(run: Finished) -> list[str]:
    """The names of runs, and what was written on them in English."""
    runs = MlflowClient(run.uri).search_runs(["0", "1"])
    said = [line for one in runs for line in one.data.tags.get("mlflow.note.content", "").splitlines()]
    return [name for name in [*(one.info.run_name for one in runs), *said] if " " in name]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_speaks_chinese(own: Finished, collection: Path, command: str):
    given = {"RUN": own.facts["run_id"], "FILE": own.facts["lora"]}
    words = [given.get(word, word.replace("COLLECTION", collection.name)) for word in shlex.split(COMMANDS[command])]
    result = fashion_ml("--lang", "zh-TW", *words, cwd=own.folder, uri=own.uri)
    assert result.returncode == (2 if command == "extract" else 0), result.stderr + result.stdout  # there is nothing between
    assert english(result.stdout + result.stderr, *_kept(own)) == []


def test_an_evaluation_speaks_chinese_on_its_last_screen_and_in_its_report_with_the_same_numbers(finished: Finished):
    run_id = finished.facts["run_id"]
    asked = ["evaluate", "run", run_id, "--output-dir", "zh", "--json", "zh.json", "--name", "again"]
    result = fashion_ml(*asked, cwd=finished.folder, uri=finished.uri, LANG="zh_TW.UTF-8", **{VARIABLE: ""})
    assert result.returncode == 0, result.stderr
    assert english(result.stdout) == []
    assert english(result.stderr) == []
    (report,) = (finished.folder / "zh").rglob("report.html")
    page = report.read_text(encoding="utf-8")
    assert '<html lang="zh-Hant-TW">' in page
    assert english(shown(page), "again") == []
    facts = json.loads((finished.folder / "zh.json").read_text(encoding="utf-8"))
    before = finished.facts["evaluation"]
    assert facts["fingerprint"] == before["fingerprint"]
    assert _numbers(facts["metrics"]) == _numbers(before["metrics"])


def _numbers(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without the sentences that say why there is no verdict."""
    return {name: {key: value for key, value in one.items() if key != "why"} for name, one in metrics.items()}


def test_errors_are_in_chinese(finished: Finished):
    refused = fashion_ml("--lang", "zh-TW", "runs", "--count", "0", cwd=finished.folder, uri=finished.uri)
    assert refused.returncode == 2
    assert refused.stderr.startswith("錯誤：--count：不接受 '0'")


def test_the_log_of_losses_begins_in_chinese_and_is_read(tmp_path: Path, monkeypatch):
    from fashion_ml.reports.loss_log import HEADER, LossLog, read_loss_log

    monkeypatch.setenv(VARIABLE, "zh-TW")
    log = LossLog(tmp_path / "log.txt")
    log.write(1, 1, 0.5, 1e-4)
    log.close()
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# LoRA 訓練損失紀錄"
    assert lines.index(HEADER) == len(lines) - 2
    assert [row.total_loss for row in read_loss_log(tmp_path / "log.txt")] == [0.5]
