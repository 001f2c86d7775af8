"""Which image of a folder belongs to which reference: by stem, by a CSV file, by order, or by the prompt in a WebUI's picture."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from fashion_ml.data.folder_listing import list_folder, read_captions
from fashion_ml.data.picture_prompts import plain_prompt, prompt_of
from fashion_ml.errors import InputError
from fashion_ml.runtime.console import say
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import composed, printable

PairBy = Literal["stem", "csv", "order", "prompt"]
Wanted = list[tuple[Path, Path]]
_CSV_BYTES, _TOLD = 256 << 20, 20
"""The most bytes of a CSV file, some million pairs, and how many of its lines that are wrong are told."""
_COLUMNS = ("generated", "reference")


@dataclass(frozen=True)
class Names:
    """What messages call the two folders, the CSV file, and how to pair."""

    generated: str
    reference: str
    pairs: str
    pair_by: str


def pair_by_of(given: str, pairs_csv: Path | None, names: Names) -> PairBy:
    """How to pair: what was given, else by the CSV file where there is one, else by stem. InputError for other words, and contradictions."""
    if not given:
        return "csv" if pairs_csv else "stem"
    if given not in get_args(PairBy):
        raise InputError(
            tr(
                "{pair_by}: {given!r} is not accepted; use {names}",
                pair_by=names.pair_by,
                given=given,
                names=", ".join(get_args(PairBy)),
            )
        )
    if (given == "csv") != (pairs_csv is not None):
        missing = (
            tr("needs a file; give it as {pairs}", pairs=names.pairs)
            if given == "csv"
            else tr("contradicts {pairs}; leave one of them out", pairs=names.pairs)
        )
        raise InputError(f"{names.pair_by}: {given} {missing}")
    return next(one for one in get_args(PairBy) if one == given)


def paired(
    by: PairBy, left: dict[str, Path], right: dict[str, Path], folder: Path, csv_file: Path | None, names: Names, bad: list[str]
) -> Wanted:
    """The pairs of generated and reference files; `left` and `right` are files by name, `folder` that of the references.

    What cannot be paired for a reason of its own is described in `bad`. InputError when the way of pairing cannot be used.
    """
    if by == "csv":
        assert csv_file is not None
        return _from_csv(csv_file, left, right, names)
    if by == "order":
        return _by_order(left, right)
    return _by_prompt(left, right, folder, names, bad) if by == "prompt" else _by_stem(left, right, folder, names)


def _by_stem(left: dict[str, Path], right: dict[str, Path], folder: Path, names: Names) -> Wanted:
    by_stem: dict[str, Path] = {}
    for path in right.values():
        stem = composed(path.stem)
        if stem in by_stem:
            raise InputError(
                tr(
                    "{reference}: {name} and {name_2} in {folder!r} have one stem; pair by a CSV file ({pairs})",
                    reference=names.reference,
                    name=printable(by_stem[stem].name),
                    name_2=printable(path.name),
                    folder=str(folder),
                    pairs=names.pairs,
                )
            )
        by_stem[stem] = path
    stems = [(path, composed(path.stem)) for path in left.values()]
    return [(path, by_stem[stem]) for path, stem in stems if stem in by_stem]


def _by_order(left: dict[str, Path], right: dict[str, Path]) -> Wanted:
    """The first with the first and so on, numbers in names by their value; what one folder has more stays alone."""
    first, second = (sorted(side.values(), key=lambda path: _natural(path.name)) for side in (left, right))
    pairs = list(zip(first, second, strict=False))
    if pairs:
        a, b = (printable(path.name) for path in pairs[0])
        say(tr("Paired by order, {count} pairs: {a} with {b}, and so on", count=len(pairs), a=a, b=b))
    return pairs


def _natural(name: str) -> list[tuple[int, int, str]]:
    """`look_2` before `look_10`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in re.split(r"(\d+)", name) if part]


def _by_prompt(left: dict[str, Path], right: dict[str, Path], folder: Path, names: Names, bad: list[str]) -> Wanted:
    """Each picture with the reference whose caption its prompt is."""
    captions: dict[str, list[Path]] = {}
    known = set(right.values())
    for path, text in read_captions(folder, list_folder(folder, read_below=True), ".txt", None).found:
        if path in known:
            captions.setdefault(plain_prompt(text), []).append(path)
    if not captions:
        raise InputError(
            tr(
                "{reference}: {folder!r} has no captions to find prompts among; write them beside the pictures (a.png, a.txt)",
                reference=names.reference,
                folder=str(folder),
            )
        )
    pairs = Wanted()
    without = 0
    for path in left.values():
        prompt = prompt_of(path)
        found = captions.get(plain_prompt(prompt), []) if prompt else []
        without += prompt is None
        if len(found) == 1:
            pairs.append((path, found[0]))
        elif found:
            listed = tr(" and ").join(printable(one.name) for one in found[:3])
            bad.append(
                tr(
                    "{generated}: {name}: its prompt is the caption of {listed}; pair it by a CSV file ({pairs})",
                    generated=names.generated,
                    name=printable(path.name),
                    listed=listed,
                    pairs=names.pairs,
                )
            )
    if without:
        say(
            tr(
                "{without} of {count} generated images hold no prompt of a WebUI (A1111's parameters, ComfyUI's prompt)",
                without=without,
                count=len(left),
            )
        )
    return pairs


def _text_of(path: Path) -> str:
    """A CSV's text: UTF-8, or UTF-16 as spreadsheets write it, with its mark or without. UnicodeDecodeError for others."""
    content = read_whole(path, _CSV_BYTES)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    if b"\0" in content[:200]:
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be")
    return content.decode("utf-8-sig")


def _rows(text: str) -> list[tuple[int, dict[str, str]]]:
    """Numbered rows by the names of the columns that are read; parted by what the first line is parted by: comma, semicolon or tab. ValueError
    for a table that lacks such a column or has it twice, and for a row of more cells than the first."""
    first, _, rest = text.partition("\n")
    skipped = 0
    if first.strip().lower().startswith("sep="):  # Excel's own line
        text, skipped = rest, 1
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names = [name.strip().lower() for name in next(reader, [])]
    if missing := [name for name in _COLUMNS if name not in names]:
        raise ValueError(tr("its first line names no column {name}", name=missing[0]))
    if doubled := [name for name in _COLUMNS if names.count(name) > 1]:
        raise ValueError(
            tr("its first line names the column {name} {count} times", name=doubled[0], count=names.count(doubled[0]))
        )
    places, rows = [names.index(name) for name in _COLUMNS], []
    for cells in reader:
        number = reader.line_num + skipped
        if any(cell.strip() for cell in cells[len(names) :]):
            raise ValueError(
                tr(
                    "line {number} has {cells} cells, and its first line {names}; put names that hold a {mark!r} in quotes",
                    number=number,
                    cells=len(cells),
                    names=len(names),
                    mark=delimiter,
                )
            )
        row = [cells[place].strip() if place < len(cells) else "" for place in places]
        if any(row):
            rows.append((number, dict(zip(_COLUMNS, row, strict=True))))
    return rows


def _from_csv(path: Path, left: dict[str, Path], right: dict[str, Path], names: Names) -> Wanted:
    try:
        rows = _rows(_text_of(path))
    except (OSError, ValueError, csv.Error) as error:  # a UnicodeDecodeError is a ValueError
        raise InputError(
            tr(
                "{pairs}: {path!r} cannot be read ({error}); give a CSV file with generated,reference, in UTF-8 or UTF-16",
                pairs=names.pairs,
                path=str(path),
                error=error,
            )
        ) from None
    return _listed(rows, path, left, right, names)


def _listed(
    rows: Sequence[tuple[int, dict[str, str]]], path: Path, left: dict[str, Path], right: dict[str, Path], names: Names
) -> Wanted:
    pairs, problems = dict[tuple[Path, Path], None](), list[str]()
    for number, row in rows:
        a, b = (composed(row[side]) for side in _COLUMNS)
        sides = ((a, "generated", left), (b, "reference", right))
        said = [
            tr("{name!r} is not in the {side} folder", name=name, side=side) for name, side, known in sides if name not in known
        ]
        if not said and (left[a], right[b]) in pairs:
            said = [tr("{a!r} with {b!r} stands there already; remove one of the lines", a=a, b=b)]
        problems += [
            tr("{pairs}: line {number} of {path!r}: {said}", pairs=names.pairs, number=number, path=str(path), said=one)
            for one in said
        ]
        if not said:
            pairs[left[a], right[b]] = None
    if more := problems[_TOLD:]:
        problems[_TOLD:] = [
            tr("{pairs}: {path!r}: {count} more like these", pairs=names.pairs, path=str(path), count=len(more))
        ]
    if problems:
        raise InputError(problems)
    return list(pairs)
