"""`show` says in which language lines are that were written in another one than is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fashion_ml.cli.show import show
from fashion_ml.evaluation.three_lines import Findings, three_lines
from fashion_ml.runs.show import Shown
from fashion_ml.runtime.language import VARIABLE, Language
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
