"""What of a screen or a page in Traditional Chinese is English all the same."""

from __future__ import annotations

import html
import re

_WORDS = re.compile(
    r"\b(?:the|of|is|are|and|not|with|without|for|this|that|was|were|from|by|at|as|in|on|to|it|steps?|references?|images?|seeds|gain|base|"
    r"better|worse|verdict|mean|none|left|report|grid|next|evaluation|training|trials?|trainings|running|failed|written|made|folders?)\b"
)
_FOUR = re.compile(r"(?:\b[A-Za-z][a-z']+\b[,;:]? ){3}[A-Za-z]")
"""Four words on end are a sentence, whichever they are."""
_NAMES = re.compile(
    r"(?:fashion-ml|pip install|mlflow) [^，。；）]*|https?://\S*|[\w./+-]*[/_.][\w./*+-]*|'[^']*'|\"[^\"]*\"|--[\w-]+|p < 0\.05|x/[a-z]+|it/s|"
    r"^\w+ = .*|^(?:Downloading artifacts|Created version|Successfully registered) .*|SHA-256",
    re.ASCII | re.MULTILINE,
)
"""These stay: commands, addresses, paths, names of settings, metrics and files, what is quoted, a file's own metadata, what MLflow says."""


def english(text: str, *names: str) -> list[str]:
    """The lines in which an English word of a sentence, or four English words, stand outside of names."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "")
    return [line for line in text.splitlines() if _is_english(_NAMES.sub("", line))]


def _is_english(line: str) -> bool:
    return bool(_WORDS.search(line) or _FOUR.search(line))


def shown(page: str) -> str:
    """What a page says above its list of settings and images, but for the sentences in the other language."""
    page = re.sub(r"<style>.*?</style>|<script>.*?</script>|<div class=\"sentence other\".*?</div>", "", page, flags=re.DOTALL)
    page = page.replace("<wbr>", "")  # within a name
    page = re.sub(r"<details>.*?</details>|<table class=\"facts\">.*?</table>", "", page, flags=re.DOTALL)
    told = re.findall(r"<title>(.*?)</title>|alt=\"(.*?)\"", page)
    return html.unescape("\n".join([*("".join(one) for one in told), *re.sub(r"<[^>]+>", "\n", page).splitlines()]))
