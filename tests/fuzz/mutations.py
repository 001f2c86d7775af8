"""Seeded damage: bytes that are cut, flipped, repeated and spliced, and trees whose values are of another kind, size or depth."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

Tree = Any


def _deep(levels: int) -> Tree:
    found: Tree = 1
    for _ in range(levels):
        found = {"a": [found]}
    return found


_JUNK: tuple[Callable[[], Tree], ...] = (
    lambda: None,
    lambda: True,
    lambda: -1,
    lambda: 0,
    lambda: 10**30,
    lambda: -(10**18),
    lambda: 2**63,
    lambda: 1e308,
    lambda: -0.0,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: "",
    lambda: " ",
    lambda: "x" * 100_000,
    lambda: "=HYPERLINK(1)",
    lambda: "../../../etc/passwd",
    lambda: "/etc/passwd",
    lambda: "~nobody_at_all/x",
    lambda: "\0",
    lambda: "a\nb\r\n\x1b[31m",
    lambda: "é" * 300,
    lambda: "{}" * 50,
    lambda: "$(touch here)",
    lambda: "1e400",
    lambda: [],
    lambda: {},
    lambda: [[]],
    lambda: [None],
    lambda: {"": {}},
    lambda: [1, "a", None, {}],
    lambda: list(range(1000)),
    lambda: _deep(20),
    lambda: _deep(200),
)
NAMES: tuple[Callable[[], Tree], ...] = (
    lambda: "\ud800",
    lambda: "a/b",
    lambda: ["a", "a"],
    lambda: [["a"]],
    lambda: [1],
    lambda: {"files": [], "shards": [], "sha256": ""},
    lambda: 0.0,
    lambda: -1.0,
)
"""What a tree of names and numbers may have too."""
RECORDS: tuple[Callable[[], Tree], ...] = (
    *(lambda number=number: number for number in (10**30, -(10**30), 2**63, 10**400)),
    *(lambda text=text: text for text in ("\ud800", "../../esc.txt", "/esc.txt", "a" * 251)),
    lambda: _deep(1200),
) * 3
"""What records of an outbox may have too, three times as likely: values that a database does not hold, places outside, no end of depth."""
_PIECES = (
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x80",
    b"-1",
    b"9" * 5000,
    b"[" * 3000,
    b"{" * 3000,
    b"&a *a",
    b"!!python/object/apply:os.system ['touch x']",
    b"!!bool maybe",
    b"!!int ''",
    b"!!float ''",
    b"!!timestamp soon",
    b"\r\n",
    b"\t",
    b"'",
    b'"',
    b"%!PS",
    b"<<: *x",
    b"../../",
    b"a" * 70_000,
)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes of a file with one to four faults."""
    for _ in range(rng.randint(1, 4)):
        content = _damaged_once(content, rng)
    return content[:4_000_000]


def _damaged_once(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return rng.choice(_PIECES)
    at = rng.randrange(len(content))
    end = min(len(content), at + rng.choice((1, 2, 4, 8, 32, 256)))
    return rng.choice(
        (
            lambda: content[:at],
            lambda: content[at:],
            lambda: content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :],
            lambda: content[:at] + rng.randbytes(end - at) + content[end:],
            lambda: content[:at] + content[end:],
            lambda: content[:end] + content[at:end] * rng.choice((1, 2, 50)) + content[end:],
            lambda: content[:at] + rng.choice(_PIECES) + content[at:],
            lambda: (
                content[:at] + rng.choice((b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x01")) + content[end:]
            ),
        )
    )()


def changed(tree: Tree, rng: random.Random, more: tuple[Callable[[], Tree], ...] = ()) -> Tree:
    """A tree with one to three faults: values of another kind, `more` of them, keys that are gone, called otherwise, or one level deeper."""
    junk = (*_JUNK, *more)
    tree = deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(tree))
        if not places:
            return rng.choice(junk)()
        holder, key = rng.choice(places)
        what = rng.randrange(6)
        if what < 3:
            holder[key] = rng.choice(junk)()
        elif what == 3:
            del holder[key]
        elif what == 4:
            holder[key] = rng.choice(({"a": holder[key]}, [holder[key]], [holder[key]] * 3))
        elif isinstance(holder, dict):
            holder[rng.choice(("", "a", str(key).upper(), f"{key}_", "__class__", "x" * 5000))] = holder.pop(key)
        else:
            holder.append(deepcopy(holder[key]))
    return tree


def _places(tree: Tree) -> Any:
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(inside):
        yield tree, key
        yield from _places(value)


def as_json(tree: Tree) -> bytes:
    """A tree as JSON, NaN and all."""
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def as_lines(tree: Tree) -> bytes:
    """The parts of a tree as JSON, a line each."""
    return b"".join(as_json(one) + b"\n" for one in (tree if isinstance(tree, list) else [tree]))


def lines_of(content: bytes) -> Tree:
    """What `as_lines` has written."""
    return [json.loads(line) for line in content.splitlines()]
