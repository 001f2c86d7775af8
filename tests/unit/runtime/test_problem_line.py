"""Lines of error are taken apart in both languages, as the catalogue puts them together."""

from __future__ import annotations

import pytest

from fashion_ml.runtime.language import VARIABLE, language, speaking, tr
from fashion_ml.runtime.problem_line import errors_among, found_and_fix, without_field


@pytest.mark.parametrize("spoken", ["en", "zh-TW"])
def test_a_line_has_field_what_was_found_and_fix(monkeypatch: pytest.MonkeyPatch, spoken: str):
    monkeypatch.setenv(VARIABLE, spoken)
    line = tr("{field}: {folder!r} does not exist; give the path of a folder", field="data.train_data_dir", folder="a; b: c")
    found, fix = found_and_fix(line.replace("a; b: c", "a"))
    assert "data.train_data_dir" in found
    assert fix == {"en": "give the path of a folder", "zh-TW": "請給資料夾的路徑"}[spoken]
    assert without_field(line).startswith("'a; b: c'")


@pytest.mark.parametrize("spoken", ["en", "zh-TW"])
def test_errors_are_found_in_a_log_of_either_language(monkeypatch: pytest.MonkeyPatch, spoken: str):
    monkeypatch.setenv(VARIABLE, "zh-TW")
    said = tr("error: {shortened}", shortened="壞了")
    monkeypatch.setenv(VARIABLE, spoken)
    assert errors_among(["step 1", "error: it broke", "WARNING: error: no"]) == ["it broke"]
    assert errors_among([said]) == (["壞了"] if spoken == "zh-TW" else [])


def test_a_line_without_a_fix_has_none():
    assert found_and_fix("disk is full") == ("disk is full", "")


def test_what_is_for_others_is_said_in_their_language_and_then_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "zh-TW")
    with speaking("en"):
        assert tr("better") == "better"
    assert language() == "zh-TW"
    monkeypatch.delenv(VARIABLE)
    with speaking("zh-TW"):
        assert tr("better") == "較好"
    assert language() == "en"
