"""`show` says an evaluation's lines in the language that is asked for, and of older ones in which language they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fashion_ml.cli.show import show
from fashion_ml.evaluation.three_lines import Findings, in_every_language, three_lines
from fashion_ml.runs.show import Shown, shown_of
from fashion_ml.runtime.language import VARIABLE, Language
from fashion_ml.tracking.run import open_run
from tests.unit.evaluation.test_three_lines import CASES

Said = Callable[[Language, str], str]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """What `show` prints in a language of a run with these lines."""

    def shown(asked: Language, lines: str) -> str:
        monkeypatch.setenv(VARIABLE, asked)
        monkeypatch.setattr(
            "fashion_ml.runs.show.shown_of", lambda _: Shown("", "hat", [("Report", Path("report.html"))], lines)
        )
        show("hat", no_open=True, json="")
        return capsys.readouterr().out

    return shown


@pytest.mark.parametrize("found", CASES.values(), ids=CASES.keys())
def test_the_language_of_lines_is_known(found: Findings):
    for one in ("en", "zh-TW"):
        assert Shown("", "", [], three_lines(found, one)).language == one
    assert Shown("", "", [], "").language is None


def test_lines_of_another_language_are_said_to_be(said: Said):
    english, chinese = (three_lines(CASES["everything"], one) for one in ("en", "zh-TW"))
    assert "\n英文，依當時寫下的內容：\nBetter: " in said("zh-TW", english)
    assert "\nTraditional Chinese, as it was written:\n較好：" in said("en", chinese)
    assert "as it was written" not in said("en", english)
    assert "依當時" not in said("zh-TW", chinese)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The report of an evaluation in a run's folder, beside its page."""
    folder = tmp_path / "run" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "report.html").touch()
    path = folder / "evaluation_report.json"
    path.write_text(json.dumps({"lines": in_every_language(CASES["everything"])}), encoding="utf-8")
    return path


@pytest.mark.parametrize("asked", ["en", "zh-TW"])
def test_an_evaluations_lines_are_said_in_the_language_that_is_asked_for(
    asked: Language, report: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(VARIABLE, asked)
    assert shown_of(str(report.parent.parent)).said == three_lines(CASES["everything"], asked)


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense", '{"lines": {"fr": "bien"}}', '{"lines": null}'])
def test_a_report_without_these_lines_says_none(text: str, report: Path):
    report.write_text(text, encoding="utf-8")
    assert shown_of(str(report.parent.parent)).said == ""


@pytest.mark.usefixtures("workdir")
def test_the_lines_of_a_store_are_said_in_the_language_that_is_asked_for(report: Path, monkeypatch: pytest.MonkeyPatch):
    with open_run("evaluation of hat", {"kind": "evaluation"}, experiment="e") as run:
        run.note(three_lines(CASES["everything"], "en"))
        for name in ("report.html", "evaluation_report.json"):
            run.log_file(report.parent / name)
    monkeypatch.setenv(VARIABLE, "zh-TW")
    assert shown_of(run.run_id).said == three_lines(CASES["everything"], "zh-TW")
