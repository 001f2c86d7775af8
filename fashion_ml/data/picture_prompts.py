"""The prompt that a WebUI wrote into a picture: A1111 and its kin as `parameters` (PNG) or in EXIF (JPEG, WebP), ComfyUI as `prompt`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashion_ml.data.pictures import PictureError, opened
from fashion_ml.runtime.json_file import parsed

_EXIF, _USER_COMMENT = 0x8769, 0x9286
_LORA = re.compile(r"<(lora|lyco|hypernet):[^<>]*>", re.IGNORECASE)
_END = re.compile(r"\n(Negative prompt:|Steps: \d)")
_DEPTH = 20


def prompt_of(path: Path) -> str | None:
    """The positive prompt of a picture's metadata; None without one, or where the file cannot be read."""
    try:
        with opened(path) as picture:
            picture.load()  # text chunks may stand behind the pixels
            info, exif = dict(picture.info), picture.getexif()
            comment = exif.get_ifd(_EXIF).get(_USER_COMMENT) if exif else None
    except (OSError, PictureError):
        return None
    for told in (info.get("parameters"), _comment(comment)):
        if isinstance(told, str) and told.strip():
            return _END.split(f"\n{told}", maxsplit=1)[0].strip()
    return _of_comfy(info["prompt"]) if isinstance(info.get("prompt"), str) else None


def without_loras(text: str) -> str:
    """A prompt as texts are read: without `<lora:…>`, one space between words, no comma at the end."""
    return " ".join(_LORA.sub(" ", text).split()).replace(" ,", ",").strip(" ,")


def plain_prompt(text: str) -> str:
    """A prompt or caption for comparing: without `<lora:…>`, one space between words, no comma at the end, any case."""
    return without_loras(text).casefold()


def _comment(raw: Any) -> str | None:
    """The text of EXIF's UserComment, whose first eight bytes name its encoding."""
    if not isinstance(raw, bytes):
        return raw if isinstance(raw, str) else None
    kind, content = raw[:8].rstrip(b"\0"), raw[8:]
    if kind != b"UNICODE":
        return content.decode("utf-8", "replace")
    return content.decode("utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be", "replace")


def _of_comfy(text: str) -> str | None:
    """The text that flows into the positive side of a workflow's first sampler; of its only text where there is no sampler."""
    try:
        nodes = parsed(text)
    except ValueError:
        return None
    if not isinstance(nodes, Mapping):
        return None
    nodes = {str(name): node for name, node in nodes.items() if isinstance(node, Mapping)}
    for node in nodes.values():
        link = _inputs(node).get("positive")
        found = _follow(link, nodes, _DEPTH) if "sampler" in str(node.get("class_type", "")).lower() else None
        if found:
            return found
    texts = [_inputs(node).get("text") for node in nodes.values() if "TextEncode" in str(node.get("class_type", ""))]
    alone = [one for one in texts if isinstance(one, str) and one.strip()]
    return alone[0] if len(alone) == 1 else None


def _inputs(node: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, Mapping) else {}


def _follow(value: Any, nodes: Mapping[str, Mapping[str, Any]], depth: int) -> str | None:
    """The text that a link leads to, through nodes that pass a conditioning or a text on."""
    if isinstance(value, str):
        return value.strip() or None
    if not (isinstance(value, list) and value and depth):
        return None
    inputs = _inputs(nodes.get(str(value[0]), {}))
    names = ("text", "positive", "conditioning", "conditioning_1", "conditioning_to", "string", "value", "prompt", "text_g")
    found = (_follow(inputs[name], nodes, depth - 1) for name in names if name in inputs)
    return next((one for one in found if one), None)
