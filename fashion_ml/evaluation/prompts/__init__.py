"""Prompts that no reference is for: the suites that come with the package, and those of users."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_ml.config import Evaluation
from fashion_ml.errors import InputError
from fashion_ml.evaluation.trigger import check_token_free, find_trigger, without_trigger
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.yaml_file import read_yaml

DEFAULT, NONE = "default", "none"
FOLDER = Path(__file__).parent
WITHOUT, WITH = "without_trigger", "with_trigger"
_FIELD = "evaluation.prompts"


@dataclass(frozen=True)
class PromptSuite:
    """Prompts in two groups, and the SHA-256 of the file they came from."""

    without_trigger: tuple[str, ...]
    with_trigger: tuple[str, ...]
    """`{}` stands for the trigger."""
    sha256: str

    def prompts(self, trigger: str) -> list[tuple[str, str]]:
        """Group and prompt of each; without a trigger there are none with it."""
        plain = [(WITHOUT, prompt) for prompt in self.without_trigger]
        return plain + ([(WITH, prompt.replace("{}", trigger)) for prompt in self.with_trigger] if trigger else [])

    def texts(self) -> list[str]:
        """What the prompts with the trigger ask for beside it."""
        return [without_trigger(prompt, "{}") for prompt in self.with_trigger]


def read_prompts(setting: str, *, embedded: bool) -> PromptSuite | None:
    """The suite of `evaluation.prompts`: the package's for `default` (`embedded` its own), a YAML file's, None for `none`.

    InputError, naming what is wrong, with all problems at once.
    """
    if setting == NONE:
        return None
    path = FOLDER / ("embedded.yaml" if embedded else "fashion.yaml") if setting == DEFAULT else Path(setting).expanduser()
    content, tree = read_yaml(path, _FIELD, tr("default, none, or a YAML file of prompts"))
    if problems := _problems(tree):
        form = tr("see {folder} for the form", folder=FOLDER / "fashion.yaml")
        raise InputError([f"{_FIELD}: {str(path)!r}, {problem}; {form}" for problem in problems])
    return PromptSuite(tuple(tree.get(WITHOUT, ())), tuple(tree.get(WITH, ())), hashlib.sha256(content).hexdigest())


def check_prompts(settings: Evaluation, captions: Sequence[str], classes: Sequence[str], *, embedded: bool) -> None:
    """InputError for what can be known to be wrong before a training: the file of prompts, and a token-free base without a trigger."""
    read_prompts(settings.prompts, embedded=embedded)
    check_token_free(settings, find_trigger(settings.trigger, captions, classes), captions)


def _problems(tree: Any) -> list[str]:
    if not isinstance(tree, dict) or not tree or set(tree) - {WITHOUT, WITH}:
        return [tr("must have {without}, {with_} or both, and nothing else", without=WITHOUT, with_=WITH)]
    found = []
    for group, prompts in tree.items():
        texts = prompts if isinstance(prompts, list) and all(isinstance(one, str) and one.strip() for one in prompts) else []
        if len(texts) < 2 or len(set(texts)) != len(texts):
            found.append(tr("{group}: give a list of at least two different prompts", group=group))
        found += [
            tr("{group}: {one!r} must hold {{}} once, for the trigger", group=group, one=one)
            for one in texts
            if group == WITH and one.count("{}") != 1
        ]
        found += [
            tr("{group}: {one!r} holds {{}}, which stands for the trigger", group=group, one=one)
            for one in texts
            if group == WITHOUT and "{}" in one
        ]
    return found
