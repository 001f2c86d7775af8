"""The settings of an experiment one by one, as its fields describe them: names, what is accepted, default, what it does.

The command line's options and their help, docs/settings.md and the hints in error messages all come from here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic.fields import FieldInfo

from fashion_ml.config.base import MayChange, Names, Section


@dataclass(frozen=True)
class Setting:
    """One setting, a leaf of a config."""

    path: str
    """Such as `network.rank`."""
    names: tuple[str, ...]
    """Short names, the most usual first; empty where only the path means it."""
    accepts: str
    """Type and range, such as `int >= 1` or `no, fp16 or bf16`."""
    default: str
    """As it is written on the command line; empty where it is not given by default."""
    required: bool
    help: str
    """What it does: the field's docstring, on one line."""
    may_change: bool
    """Whether a run may be resumed with another value."""
    is_text: bool
    """Whether any words are a value of it, so that no word, nor a bracket, means something else."""
    is_list: bool
    is_optional: bool
    """Whether `null` is a value of it: not given."""

    @property
    def section(self) -> str:
        """The first part of the path; empty for a setting outside all sections."""
        return self.path.rpartition(".")[0].partition(".")[0]

    @property
    def key(self) -> str:
        """The path inside its section."""
        return self.path.removeprefix(f"{self.section}.")

    @property
    def is_switch(self) -> bool:
        """Whether it is true or false, so that an option without a value can mean true."""
        return self.accepts == _BOOL


_BOOL = "true or false"


@cache
def settings_of(kind: type[Section], prefix: str = "") -> tuple[Setting, ...]:
    """Every setting of a config, in the order of its fields; `prefix` goes before the paths."""
    return tuple(_leaves(kind, prefix, may_change=False))


def evaluation_settings(kind: type[Section], only: Collection[str] | None = None) -> list[Setting]:
    """Settings of an evaluation that stands alone, or those among `only`, called by their own names. Not `enabled`: it is asked for."""
    return [
        replace(one, names=(one.key, *(name for name in one.names if name != one.key)))
        for one in settings_of(kind, "evaluation.")
        if one.key != "enabled" and (only is None or one.key.partition(".")[0] in only)
    ]


def short_names(kind: type[Section]) -> dict[str, str]:
    """Short name -> path, of all settings of an experiment. ValueError when two settings claim one name."""
    result: dict[str, str] = {}
    for path, field in _fields(kind, ""):
        for name in _names(path, field):
            if name in result:
                raise ValueError(f"{name!r} would mean {result[name]} and {path}; mark one of them Names(own=False)")
            result[name] = path
    return result


def defaults_of(kind: type[Section]) -> dict[str, Any]:
    """Path -> default of all settings of an experiment, lists as lists; None for those that have to be given."""
    found = {}
    for path, field in _fields(kind, ""):
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        found[path] = list(default) if isinstance(default, tuple) else default
    return found


def setting_at(kind: type[Section], location: tuple[Any, ...]) -> Setting | None:
    """The setting that a location in a config is, or is inside of; None where it is a section or nothing."""
    path = ".".join(str(part) for part in location)
    return next((one for one in settings_of(kind) if f"{path}.".startswith(f"{one.path}.")), None)


def _fields(kind: type[Section], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in kind.model_fields.items():
        if _is_section(field):
            yield from _fields(field.annotation, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{name}", field


def _leaves(kind: type[Section], prefix: str, *, may_change: bool) -> Iterator[Setting]:
    schema = kind.model_json_schema()["properties"]
    for name, field in kind.model_fields.items():
        may = may_change or any(isinstance(one, MayChange) for one in field.metadata)
        if _is_section(field):
            yield from _leaves(field.annotation, f"{prefix}{name}.", may_change=may)  # type: ignore[arg-type]
        else:
            yield _setting(f"{prefix}{name}", field, schema[name], may_change=may)


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, Section)


def _names(path: str, field: FieldInfo) -> tuple[str, ...]:
    given = next((one for one in field.metadata if isinstance(one, Names)), Names())
    if path.count(".") != 1:  # a setting of no section or deeper in one is called by its path
        return (path, *given.others) if given.others else ()
    own = (path.partition(".")[2],) if given.own else ()
    return (*own, *given.others)


def _setting(path: str, field: FieldInfo, schema: Mapping[str, Any], *, may_change: bool) -> Setting:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    text = " ".join((field.description or "").split())
    kinds = schema.get("anyOf", [schema])
    return Setting(
        path=path,
        names=_names(path, field),
        accepts=_accepts(schema),
        default=_shown(default),
        required=field.is_required(),
        help=text,
        may_change=may_change,
        is_text=any(kind.get("type") == "string" and not {"enum", "const"} & kind.keys() for kind in kinds),
        is_list=any(kind.get("type") == "array" for kind in kinds),
        is_optional=any(kind.get("type") == "null" for kind in kinds),
    )


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, Mapping) and not value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}" if 0 < abs(value) < 1e-3 else f"{value:g}"
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    return str(value)


def _accepts(schema: Mapping[str, Any]) -> str:
    """What a JSON schema takes, in a few words."""
    if "anyOf" in schema:
        kinds = [_accepts(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema or "const" in schema:
        *most, last = schema.get("enum", [schema.get("const")])
        return f"{', '.join(map(str, most))} or {last}" if most else str(last)
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_accepts(schema.get('items', {}))}"
    if kind in ("integer", "number"):
        return f"{'int' if kind == 'integer' else 'number'}{_range(schema)}"
    return {"boolean": _BOOL, "string": "text", "object": "mapping"}.get(str(kind), "mapping")


def _range(schema: Mapping[str, Any]) -> str:
    bounds = (
        ("multipleOf", "a multiple of"),
        ("minimum", ">="),
        ("exclusiveMinimum", ">"),
        ("maximum", "<="),
        ("exclusiveMaximum", "<"),
    )
    found = [f"{sign} {schema[name]:g}" for name, sign in bounds if name in schema]
    return f" {', '.join(found)}" if found else ""
