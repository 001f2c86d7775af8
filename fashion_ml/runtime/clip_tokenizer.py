"""CLIP's tokenizer from a folder, checked against the text encoder that it belongs to: of a base, and of an evaluation's encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.weight_files import read_json

_PADDING = 128
"""Rows by which an embedding may be longer than its vocabulary: some are padded for speed."""


def read_tokenizer(folder: Path, text: Any, what: str) -> Any:
    """The tokenizer of a folder, for the text encoder whose configuration is `text`. InputError when files are missing or it is another's."""
    from transformers import CLIPTokenizer

    names = {path.name for path in folder.iterdir() if path.stat().st_size} if folder.is_dir() else set[str]()
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
        lacking = [name for name in ("vocab.json", "merges.txt") if name not in names]
        raise InputError(
            tr("{what} lacks {names} (or tokenizer.json); download it again", what=what, names=tr(" and ").join(lacking))
        )
    for name in sorted(names & {"tokenizer.json", "vocab.json", "tokenizer_config.json", "special_tokens_map.json"}):
        read_json(folder / name, what.partition(":")[0])
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        probe = tokenizer("a red dress").input_ids
    except Exception as error:  # the errors of the tokenizers library are plain ones
        raise InputError(
            tr("{what} cannot be read ({first_line}); download it again", what=what, first_line=first_line(error))
        ) from error
    rows, words = int(text.vocab_size), len(tokenizer)
    if not words <= rows < words + _PADDING:
        raise InputError(
            tr(
                "{what} knows {words} tokens, and the text encoder {rows}: it is another model's; give the tokenizer "
                "of this base",
                what=what,
                words=words,
                rows=rows,
            )
        )
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    if (probe[0], probe[-1]) != ends or set(probe) <= {*ends, tokenizer.unk_token_id} or max(probe) >= rows:
        raise InputError(
            tr(
                "{what} makes {probe} of 'a red dress': its files do not belong together; download it again",
                what=what,
                probe=probe,
            )
        )
    if tokenizer.model_max_length > text.max_position_embeddings:
        say(
            tr(
                "The tokenizer names no length that the text encoder has, so captions end at its "
                "{max_position_embeddings} tokens",
                max_position_embeddings=text.max_position_embeddings,
            )
        )
        tokenizer.model_max_length = text.max_position_embeddings
    return tokenizer
