"""The catalogue in Traditional Chinese has all that the code says, translated, with the same places for values."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import fashion_ml
from fashion_ml.runtime.catalogue import messages, places, update
from fashion_ml.runtime.language import CATALOGUE, VARIABLE, tr
from fashion_ml.runtime.po_file import Entry, read_po, write_po

ENTRIES = read_po(CATALOGUE)
MEND = "bring it up to date: python -m fashion_ml.runtime.catalogue, then fill in each empty msgstr"
_LABEL = re.compile(r"(?:\S+(?: \S+)*) +(?=\S)")


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def test_every_marked_message_is_in_the_catalogue_and_nothing_else():
    assert {entry.message: entry.files for entry in ENTRIES} == messages(), MEND


def test_every_message_is_translated_and_sure():
    assert [entry.message for entry in ENTRIES if not entry.translation or entry.fuzzy] == [], MEND


def test_a_translation_has_the_same_places_for_values():
    assert [one.message for one in ENTRIES if "{" in one.message and places(one.message) != places(one.translation)] == []


def test_a_label_of_ten_columns_has_ten_in_the_translation():
    """What stands under another on a terminal does so in both languages."""
    differing = []
    for entry in ENTRIES:
        label = _LABEL.match(entry.message)
        if label and label.end() == 10 and "  " in label[0]:
            other = _LABEL.match(entry.translation)
            differing += [entry.message] if other is None or columns(other[0]) != 10 else []
    assert differing == []


def test_a_translation_begins_and_ends_with_a_blank_where_the_message_goes_on_with_chinese_or_not_at_all():
    """A blank between two Chinese clauses would be a gap."""
    assert [one.message for one in ENTRIES if re.search(r"[，。；：] |[\u4e00-\u9fff] [，。；：]", one.translation)] == []


@pytest.mark.parametrize("text", ["{a:.3f} of {b!r}", 'with "quotes", a \\ and\ttwo\nlines', "長春藤"])
def test_what_is_written_is_read(tmp_path: Path, text: str):
    write_po(tmp_path / "one.po", [Entry(text, text[::-1], ["a.py", "b.py"]), Entry("guess", "x", [], fuzzy=True)])
    assert read_po(tmp_path / "one.po") == [Entry(text, text[::-1], ["a.py", "b.py"]), Entry("guess", "x", [], fuzzy=True)]


def test_bringing_it_up_to_date_keeps_translations_and_drops_what_is_gone(tmp_path: Path):
    message = ENTRIES[0].message
    write_po(tmp_path / "one.po", [Entry(message, "甲"), Entry("said no more", "乙")])
    assert message not in update(tmp_path / "one.po")
    kept = {entry.message: entry.translation for entry in read_po(tmp_path / "one.po")}
    assert kept[message] == "甲"
    assert "said no more" not in kept


def test_a_line_that_belongs_to_nothing_is_named(tmp_path: Path):
    (tmp_path / "one.po").write_text('msgid "a"\nmsgtsr "b"\n')
    with pytest.raises(ValueError, match="line 2"):
        read_po(tmp_path / "one.po")


def test_a_message_is_said_in_the_language(monkeypatch: pytest.MonkeyPatch):
    assert tr("{count} captions", count=3) == "3 captions"  # not marked here: tests are no part of the package
    monkeypatch.setenv(VARIABLE, "zh-TW")
    assert tr("better") == "較好"
    assert tr("said nowhere") == "said nowhere"


_SAYING = {
    "say",
    "tell",
    "warn",
    "echo",
    "bar",
    "table",
    "InputError",
    "TrialError",
    "PictureError",
    "Finding",
    "set_title",
    "set_xlabel",
    "set_ylabel",
}
_ENGLISH = re.compile(r"[A-Za-z]{2,}[,:;]? [a-z]{2,}")
_HEADS = {"image", "caption", "name", "status", "verdict", "gain", "metric", "recipe", "seeds", "final", "time"}
_ANSWERS = {"asked.py", "guarded_app.py", "mlflow_answers.py"}
"""Of a server to programs, which are of one language."""


def _package() -> list[Path]:
    """The package's files, of which there are many."""
    found = sorted(Path(fashion_ml.__file__).parent.rglob("*.py"))
    assert len(found) > 200
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_what_a_person_is_told_is_marked():
    """Whatever is said on a terminal, as an error or by the doctor."""
    found = []
    for path in _package():
        if "making" in path.parts or path.name in _ANSWERS:
            continue
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call) and _called(node) in _SAYING:
                said = (text for part in [*node.args, *(word.value for word in node.keywords)] for text in _literals(part))
                head = _called(node) == "table"  # a single word is English there
                found += [
                    f"{path.name}, line {node.lineno}: {text}"
                    for text in said
                    if _ENGLISH.search(text) or (head and text in _HEADS)
                ]
    assert [line for line in found if "fashion-ml " not in line and "pip install" not in line] == []  # commands stay


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _literals(node: ast.AST) -> Iterator[str]:
    """The texts of an expression that are in no `tr("…")`, with 0 in the places of values."""
    if isinstance(node, ast.Call) and _called(node) in ("tr", "marked", "translated"):
        return
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    if not isinstance(node, ast.Compare | ast.Subscript):
        for part in ast.iter_child_nodes(node):
            yield from _literals(part)


def test_no_word_of_english_is_put_into_a_translated_message():
    """Such as the s of a plural: a message for one and a message for several say it in each language."""
    found = []
    for path in _package():
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call) and _called(node) == "tr":
                for word in node.keywords:
                    choices = [word.value.body, word.value.orelse] if isinstance(word.value, ast.IfExp) else []
                    texts = [one.value for one in choices if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                    found += [f"{path.name}, line {node.lineno}: {text}" for text in texts if re.fullmatch(r"[a-z ]+", text)]
    assert [line for line in found if line.rsplit(": ", 1)[1] not in _SETTINGS] == []


_SETTINGS = {"betas", "optimizer_args", "optimizer_type", "config"}


_PHRASE = re.compile(r"(?:[A-Za-z][a-z']+[,:;]? ){2}[a-z]{2,}")
"""Three words of English on end."""
_FOR_NO_PERSON_OF_ANOTHER_LANGUAGE = {
    *("sentence_forms.py", "suite_lines.py", "leader_words.py"),  # have both languages beside each other
    *(
        "asked.py",
        "guarded_app.py",
        "mlflow_answers.py",
        "request_checks.py",
        "request_rows.py",
        "stargan_model.py",
    ),  # answers of a server to programs
    *("hub_folder.py", "settings_table.py", "po_file.py"),  # a card for a hub, the docs' table of settings, a head of a file
    *(
        "help_language.py",
        "catalogue.py",
        "plot_pages.py",
    ),  # typer's own words as they are looked for, a developer's tool, a script
    "training_report.py",  # a file for programs
    *(
        "dino.py",
        "kid.py",
        "pair_kid.py",
        "prompt.py",
        "registry.py",
        "structure.py",
    ),  # how a metric is measured, which is a fact too
    *("gan_facts.py", "fingerprint.py", "toy.py", "lora_plan.py", "encoded_images.py"),  # facts, the same in every language
}
_NOT_SAID = {
    *("search_space, for each setting", "true or false", "bold not yellow", "dim not yellow"),
    *("second text encoder", "lora of the text encoder", "lora of the second text encoder", "CUDA error: out of memory"),
    *("LoCon with lora_mid", "OFT of another kind", "LyCORIS in kohya's trainer", "DoRA along the inputs"),  # names of methods
    *(
        "evaluation of images in 0",
        "ranks by block",
        "Loss and score",
        "# not in git: 0\n",
        "measured at step",
    ),  # kept in the store
    *("its process ended without ending the run", "Goes on with run 0."),
    "its files are on another machine; the training goes on in another run",
    *("What is kept", "Variety of styles", "seeds to settle"),  # keys of words that are marked beside them
    "a red striped dress, size 38",
}


def _phrases(node: ast.AST) -> Iterator[str]:
    """English in an expression that is no docstring, no mark, no help, no description of a metric and no error of the code's own."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Compare | ast.Subscript | ast.Assert | ast.Raise):  # what is raised is looked at by what it says
        return
    if isinstance(node, ast.Call) and _called(node) in ("tr", "marked", "translated", "Metric", "Typer", "search_runs"):
        return
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for part in ast.iter_child_nodes(node):
            yield from _phrases(part)


def test_english_that_is_returned_or_kept_to_be_said_is_marked():
    """What reaches a person by way of a variable, such as the reason inside of an error."""
    found = []
    for path in _package():
        if "making" in path.parts or path.name in _FOR_NO_PERSON_OF_ANOTHER_LANGUAGE:
            continue
        found += [f"{path.name}: {text}" for text in _phrases(_tree(path)) if _PHRASE.search(text) and text not in _NOT_SAID]
    assert [
        line for line in found if not re.search(r"fashion-ml |tags\.|\.py|xformers|zarya style", line.split(": ", 1)[1])
    ] == []


@pytest.mark.parametrize(
    "name", ["evaluation/report.html.jinja", "sweep/suite_report.html.jinja", "reports/run_page.html.jinja"]
)
def test_a_page_says_nothing_but_what_is_marked(name: str):
    assert _unmarked((Path(fashion_ml.__file__).parent / name).read_text(encoding="utf-8")) == []
    assert name in {path.relative_to(Path(fashion_ml.__file__).parent).as_posix() for path in _pages()}


def test_words_of_a_page_that_are_not_marked_are_noticed():
    assert _unmarked('<h1>{{ tr("Scores") }}</h1><p title="a red hat">{{ "no image" }} Every image</p>') == [
        "a red hat",
        "Every image",
        "no image",
    ]


def _pages() -> list[Path]:
    return sorted(Path(fashion_ml.__file__).parent.rglob("*.jinja"))


def _unmarked(page: str) -> list[str]:
    """English that a template says by itself: text, what pictures and parts are called, and texts inside of braces that are in no `tr`."""
    page = re.sub(r"<style>.*?</style>|<!doctype html>", "", page, flags=re.DOTALL)
    inside = re.findall(r"\{[{%](.*?)[%}]\}", page, flags=re.DOTALL)
    rest = re.sub(r"\{[{%].*?[%}]\}", "", page, flags=re.DOTALL)
    said = re.findall(r'(?:alt|title)="([^"]*)"', rest) + re.sub(r"<[^>]*>", "\n", rest).split("\n")
    said += [
        text
        for part in inside
        for text in re.findall(r'"([^"]*)"', re.sub(r'\btr\(\s*"[^"]*"', "", part))
        if " " in text.strip()
    ]
    return [
        text.strip() for text in said if re.search(r"[A-Za-z]{3}", text) and text.strip() not in _SAME and "class=" not in text
    ]


_SAME = {"run", "can see ≥", "seeds to settle", "for half"}
"""The same in both, or keys of words that are marked."""
