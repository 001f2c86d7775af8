"""Text without the passwords and tokens that this process was given."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

_CREDENTIALS = re.compile(r"(?<=//)[^/@\s'\"]+@")
_WHOLE_URL = re.compile(r"(?<![\w+.-])\w[\w+.-]{0,30}://[^:/@]{0,200}:(?P<password>.{1,2000})@")
_IN_QUERY = re.compile(
    r"(?<=[?&])(?P<key>\w{0,40}(?:password|passwd|pwd|token|secret|api_key)\w{0,40})=(?P<value>[^&\s'\"]+)", re.IGNORECASE
)
"""These patterns are bounded, so that a text of 100,000 letters, or of `a://` over and over, takes no minutes."""
_SECRET_NAMES = ("PASSWORD", "TOKEN", "SECRET", "ACCESS_KEY", "API_KEY")
_SHORTEST = 6
"""Shorter secrets are only removed where they stand in a URL."""


def without_credentials(text: str) -> str:
    """A text without the user and password of any URL in it, and without the passwords and tokens that this process was given.

    Those are looked for in the environment and on the command line, in URLs of every form there and in variables named for what they hold.
    """
    whole = _WHOLE_URL.match(text)
    if whole:  # a URL by itself: its password may hold anything
        text = text.replace(f":{whole['password']}@", "@", 1)
    for secret in sorted(set(_secrets()), key=len, reverse=True):
        text = text.replace(f":{secret}@", "@")
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "[secret]")
    return _IN_QUERY.sub(lambda match: f"{match['key']}=[secret]", _CREDENTIALS.sub("", text))


def _secrets() -> Iterator[str]:
    for value in (*os.environ.values(), *sys.argv):
        match = _WHOLE_URL.search(value)
        if match:
            yield match["password"]
        yield from (match["value"] for match in _IN_QUERY.finditer(value))
    yield from (value for name, value in os.environ.items() if value and name.upper().endswith(_SECRET_NAMES))


def first_line(error: BaseException) -> str:
    """What an error says in one line, without credentials; its kind where it says nothing."""
    return without_credentials((str(error).strip() or type(error).__name__).splitlines()[0])
