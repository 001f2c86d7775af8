"""Commands that take settings as options: what there is, its help and its names are read from the config when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol

from typer.core import TyperCommand

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.language import marked, tr, translated

if TYPE_CHECKING:
    from fashion_ml.config import Setting


@dataclass(frozen=True)
class Offered:
    """A setting as a command offers it."""

    setting: Setting
    panel: str
    """Heading of the part of --help that it stands in."""
    has_default: bool = True
    """Off where what is not given comes from a run, not from the field."""

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called as an option, without the dashes."""
        return self.setting.names or (self.setting.path,)


class Foreign(Protocol):
    """Options of another program that a command takes as well."""

    def takes(self, name: str, following: str) -> bool:
        """Whether an option is one of them; `following` is the word behind it."""

    def take(self, name: str, values: list[str]) -> None:
        """Keep what one of them was given."""

    def names(self) -> Collection[str]:
        """All of them, for finding what was meant."""

    def settled(self, given: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The settings by path that they are here, and a line for each that has no equal; says what is not needed. `given` are settings that
        were given too, and `own` the command's own options, such as the experiment that all of it lies over."""


def settings_command(read: Callable[[], Sequence[Offered]], foreign: Callable[[], Foreign] | None = None) -> type[TyperCommand]:
    """A class of commands that take the settings of `read()` as options; they come to the command as `context.obj`, path -> text.

    `read` and `foreign` are called when such a command is parsed or explained, not before: they import the config.
    """

    class SettingsCommand(TyperCommand):
        """Takes the settings out of what was given before typer parses the rest, and shows them in panels under typer's help."""

        def offered(self) -> Sequence[Offered]:
            """The settings that are options here."""
            return read()

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            """InputError with a line for each option that there is not."""
            others = foreign() if foreign is not None else None
            given, rest, problems = _taken(args, read(), self.get_params(ctx), others)
            rest = super().parse_args(ctx, rest)  # --help ends here
            if others is not None:
                settings, without = others.settled(given, ctx.params)
                given, problems = {**settings, **given}, problems + without
            if problems:
                raise InputError(problems)
            ctx.obj = given
            return rest

        def format_help(self, ctx: Any, formatter: Any) -> None:
            """Typer's, with its options under `run`, and a panel for each section."""
            own: list[Any] = list(self.params)
            for param in own:
                param.rich_help_panel = None if param.param_type_name == "argument" else "run"
            super().format_help(ctx, formatter)
            _print_panels(read())

    return SettingsCommand


def _taken(
    arguments: Sequence[str], offered: Sequence[Offered], params: Sequence[Any], foreign: Foreign | None
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Settings by path, what else was given, and what is wrong. A setting's value is what follows; a switch alone means true.

    What `foreign` takes goes there with all the words that follow.
    """
    settings = {name: one.setting for one in offered for name in (*one.names, one.setting.path)}
    alone = {
        _name(option): bool(param.is_flag) for param in params for option in param.opts if _is_own(option, param, settings)
    }
    takes_words = any(param.param_type_name == "argument" for param in params)
    given: dict[str, Any] = {}
    names: dict[str, str] = {}
    others: list[str] = []
    problems: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        name, setting = _name(option), settings.get(_name(option)) if option.startswith("--") else None
        if setting is None and option.startswith("-") and name in alone:
            others.append(word)
            if not equals and not alone[name] and rest:
                others.append(rest.pop(0))
            continue
        if foreign and option.startswith("--") and foreign.takes(name, value if equals else " ".join(_following(rest))):
            foreign.take(name, [value] if equals else _values(rest))
            continue
        if not option.startswith("--"):
            if takes_words:
                others.append(word)
            else:
                problems.append(tr("{option}: was not expected here; options begin with -- (--help shows them)", option=option))
            continue
        followed = bool(rest) and not rest[0].startswith("--")
        if not equals and followed:
            value = rest.pop(0)
        if setting is None:
            hint = _hint(name, settings, [*alone, *(foreign.names() if foreign else ())])
            problems.append(tr("{option}: no such option; {hint}", option=option, hint=hint))
        elif not equals and not followed and not setting.is_switch:
            problems.append(tr("{option}: needs a value ({accepts})", option=option, accepts=setting.accepts))
        else:
            wanted = value if equals or followed else "true"
            before = names.setdefault(setting.path, option)
            if _name(before) != name and given[setting.path] != wanted:
                form = marked("{option} {wanted} counts: {before} {given} is the same setting ({path})")
                said = {"option": option, "wanted": wanted, "before": before, "given": given[setting.path]}
                warn(translated(form, **said, path=setting.path))
            given[setting.path] = wanted
    return given, others, problems


def _is_own(option: str, param: Any, settings: Mapping[str, Any]) -> bool:
    return option.startswith("-") and _name(option) not in settings and hasattr(param, "is_flag")


def _name(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


def _following(rest: Sequence[str]) -> list[str]:
    """The words up to the next option."""
    return list(takewhile(lambda word: not word.startswith("--"), rest))


def _values(rest: list[str]) -> list[str]:
    """The same, taken from the rest."""
    values = _following(rest)
    del rest[: len(values)]
    return values


def _hint(name: str, settings: Mapping[str, Setting], alone: Collection[str]) -> str:
    """What an option that there is not may mean."""
    from fashion_ml.config.messages import did_you_mean

    near = did_you_mean(name, (*settings, *alone), list(dict.fromkeys(settings.values())), dashes="--")
    return near or tr("--help shows what there is")


def _print_panels(offered: Sequence[Offered]) -> None:
    """Name and other names at the left, at the right what is accepted, what it does, and the default."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for panel in dict.fromkeys(one.panel for one in offered):
        rows = Table.grid(padding=(0, 2), expand=True)
        rows.add_column(no_wrap=True, style="bold cyan")
        rows.add_column(ratio=1, overflow="fold")
        for one in offered:
            if one.panel == panel:
                words = Text(one.setting.accepts, style="yellow").append("  ")
                for number, part in enumerate(one.setting.help.split("`")):
                    words.append(part, "bold not yellow" if number % 2 else "not yellow")
                default = "required" if one.setting.required else one.setting.default and f"default: {one.setting.default}"
                words.append(f" [{default}]" if default and one.has_default else "", "dim not yellow")
                rows.add_row("\n".join(f"--{name.replace('_', '-')}" for name in one.names), words)
        console.print(Panel(rows, title=panel, title_align="left", border_style="dim"))
