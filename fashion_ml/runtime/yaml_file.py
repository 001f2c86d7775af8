"""YAML files: one reader for all of them, which takes no more than settings need and gives a key once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fashion_ml.errors import InputError
from fashion_ml.runtime.input_file import opened
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.redact import first_line

MOST_BYTES = 2_000_000
"""Of one file: the parser takes about five seconds for so many."""
_DEEPEST, _MOST_VALUES, _MOST_DIGITS = 50, 200_000, 30


class _Loader(yaml.SafeLoader):
    """Safe values alone; a key that stands twice, deep nesting, values that multiply by aliases, and huge numbers are errors."""

    def __init__(self, text: str):
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}
        """How many values each node is, its aliases' counted wherever they stand, by `id`."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(
                tr("more than {deepest} levels, one inside the other", deepest=_DEEPEST), self.peek_event().start_mark
            )
        alias = self.check_event(yaml.AliasEvent)
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if alias and id(node) not in self._sizes:
            raise self._error(tr("a value that holds itself"), node.start_mark)
        if id(node) not in self._sizes:
            parts = getattr(node, "value", ())
            below = [one for pair in parts for one in pair] if isinstance(node, yaml.MappingNode) else parts
            nodes = () if isinstance(node, yaml.ScalarNode) else below
            self._sizes[id(node)] = 1 + sum(self._sizes.get(id(one), 1) for one in nodes)
        if self._sizes[id(node)] > _MOST_VALUES:
            raise self._error(
                tr("more than {most_values:,} values, aliases counted", most_values=_MOST_VALUES), node.start_mark
            )
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        given = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                continue
            name = key.tag, key.value
            if name in given:
                raise self._error(tr("{value!r} stands twice", value=key.value[:80]), key.start_mark)
            given.add(name)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and isinstance(node, yaml.ScalarNode)
        if number and len(node.value) > _MOST_DIGITS:
            raise self._error(tr("a number of {count} digits", count=len(node.value)), node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:  # such as a 13th month
            raise self._error(str(error), node.start_mark) from None
        except (
            KeyError,
            IndexError,
            AttributeError,
            TypeError,
        ):  # PyYAML's own readers, of a value that is not of the kind its tag says
            kind = node.tag.rpartition(":")[2]
            shown = str(node.value)[:80] if isinstance(node, yaml.ScalarNode) else node.id
            raise self._error(tr("{value!r} is no {kind}", value=shown, kind=kind), node.start_mark) from None

    @staticmethod
    def _error(problem: str, mark: Any) -> yaml.YAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def parsed(text: str | bytes) -> Any:
    """What a YAML text holds. yaml.YAMLError for what is none, and for what is larger or deeper than settings are; UnicodeDecodeError where
    bytes are not UTF-8."""
    if len(text) > MOST_BYTES:
        raise yaml.MarkedYAMLError(
            problem=tr("{count:,} bytes, more than the {most_bytes:,} that are read", count=len(text), most_bytes=MOST_BYTES)
        )
    loader = _Loader(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    try:
        return loader.get_single_data()
    except RecursionError:
        raise yaml.MarkedYAMLError(problem=tr("too deep")) from None
    finally:
        loader.dispose()


def what_is_wrong(error: yaml.YAMLError) -> str:
    """Where and why a text is no YAML, in a few words."""
    mark = getattr(error, "problem_mark", None)
    line = tr("line {line}, ", line=mark.line + 1) if mark else ""
    return f"{line}{getattr(error, 'problem', None) or getattr(error, 'reason', None) or 'syntax'}"


def read_bytes(path: Path) -> bytes:
    """A file's bytes, of one that is too large only as many as show that it is. OSError."""
    with opened(path) as file:
        return file.read(MOST_BYTES + 1)


def read_yaml(path: Path, field: str, give: str) -> tuple[bytes, Any]:
    """The bytes of a file and what is in it. InputError, naming the setting `field` and what to `give`, when it cannot be read."""
    try:
        content = read_bytes(path)
        return content, parsed(content)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        why = what_is_wrong(error) if isinstance(error, yaml.YAMLError) else first_line(error)
        raise InputError(
            tr("{field}: {path!r} cannot be read ({why}); give {give}", field=field, path=str(path), why=why, give=give)
        ) from None


def read_mapping(path: Path, field: str, give: str) -> dict[str, Any]:
    """As `read_yaml`, of a file that has to hold a mapping."""
    _, tree = read_yaml(path, field, give)
    if not isinstance(tree, dict):
        raise InputError(tr("{field}: {path!r} holds no settings; give {give}", field=field, path=str(path), give=give))
    return tree
