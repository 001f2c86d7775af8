"""Passwords leave no text, whatever form they have."""

from __future__ import annotations

import time

import pytest

from fashion_ml.runtime.redact import without_credentials

SECRET = "ssw0rdX"


@pytest.mark.parametrize(
    "uri",
    [
        "http://u:pssw0rdX@h:1/x",
        "postgresql://u:pa/ssw0rdX@h/db",
        "postgresql://h/db?user=u&password=ssw0rdX",
        "http://u:pa'ssw0rdX@h",
        'http://u:pa"ssw0rdX@h',
        "http://u:pa ssw0rdX@h",
        "http://u:pa@ssw0rdX@h:1",
    ],
)
def test_a_uri_is_shown_without_its_password_by_itself_and_inside_a_text(uri: str, monkeypatch: pytest.MonkeyPatch):
    assert SECRET not in without_credentials(uri)
    assert "//h" in without_credentials(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert SECRET not in without_credentials(f"OperationalError: cannot reach {uri!r} (twice: {uri})")


def test_what_the_environment_holds_is_removed_and_other_text_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/db?user=u&password=ssw0rdX")
    monkeypatch.setenv("SOME_API_KEY", "another-secret")
    assert without_credentials("x ssw0rdX y another-secret z") == "x [secret] y [secret] z"
    assert (
        without_credentials("see https://example.org/a?b=c and me@example.org")
        == "see https://example.org/a?b=c and me@example.org"
    )


@pytest.mark.parametrize("piece", ["a", "a://b:", "a://", "?token", "?token&", "//a", "a@", "://:@"])
def test_a_text_of_100_000_characters_takes_a_moment(piece: str, monkeypatch: pytest.MonkeyPatch):
    text = piece * (100_000 // len(piece))
    monkeypatch.setattr("sys.argv", ["fashion-ml", text])
    began = time.process_time()
    without_credentials(text)
    assert time.process_time() - began < 5
