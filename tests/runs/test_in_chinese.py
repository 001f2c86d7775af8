"""A run in Traditional Chinese: its screens and the heads of its reports hold no English sentence, and its numbers are those of English."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from fashion_ml.runtime.language import VARIABLE
from tests.runs.command import Finished, fashion_ml

_WORDS = re.compile(
    r"\b(?:the|of|is|are|and|not|with|without|for|this|that|was|were|from|by|at|as|in|on|to|it|steps?|references?|images?|seeds?|gain|base|"
    r"better|worse|verdict|mean|none|left|report|grid|next|evaluation|training)\b"
)
_NAMES = re.compile(
    r"(?:fashion-ml|pip install|mlflow) [^，。；）]*|[\w./-]*[/_.][\w./*-]*|'[^']*'|\"[^\"]*\"|--[\w-]+|p < 0\.05|x/[a-z]+|it/s",
    re.ASCII,
)
"""Commands, paths and names of settings, metrics and files, and what is quoted: these stay."""


def english(text: str, *names: str) -> list[str]:
    """The lines in which an English word of a sentence stands, outside of names."""
    for name in names:
        text = text.replace(name, "")
    return [line for line in text.splitlines() if _WORDS.search(_NAMES.sub("", line))]


def shown(page: str) -> str:
    """What a page says above its list of settings and images."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    page = re.sub(r"<details>.*?</details>|<table class=\"facts\">.*?</table>", "", page, flags=re.DOTALL)
    told = re.findall(r"<title>(.*?)</title>|alt=\"(.*?)\"", page)
    return html.unescape("\n".join([*("".join(one) for one in told), *re.sub(r"<[^>]+>", "\n", page).splitlines()]))


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


def test_what_a_training_would_do_is_said_in_chinese(finished: Finished):
    for kind in ("lora", "stargan"):
        result = fashion_ml("--lang", "zh-TW", "train", kind, "--dry-run", cwd=finished.folder, uri=finished.uri)
        assert result.returncode == 0, result.stderr
        assert english(result.stdout + result.stderr) == []


def test_lists_and_errors_are_in_chinese(finished: Finished):
    listed = fashion_ml("--lang", "zh-TW", "runs", cwd=finished.folder, uri=finished.uri)
    assert listed.returncode == 0, listed.stderr
    assert english(listed.stdout, *(line for line in re.findall(r"^\w{8} +(.*?)  ", listed.stdout, re.MULTILINE))) == []
    shown_ = fashion_ml("--lang", "zh-TW", "show", "--no-open", cwd=finished.folder, uri=finished.uri)
    assert english(shown_.stdout.splitlines()[-1]) == []
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
