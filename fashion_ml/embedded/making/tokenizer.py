"""A CLIPTokenizer with a small vocabulary: every byte, and the words of the garment world as single tokens."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from fashion_ml.embedded.finishes import COLOURS
from fashion_ml.embedded.garments import PATTERNS
from fashion_ml.embedded.shapes import KINDS

CONTEXT_LENGTH = 32
_OTHER_WORDS = (
    *("a", "an", "the", "photo", "picture", "of", "product", "on", "in", "with", "and"),
    *("plain", "background", "studio", "light", "style", "garment"),
)


def build_tokenizer() -> CLIPTokenizer:
    """Byte-pair merges learnt on the world's words; unknown words fall apart into letters, as in CLIP.

    `<|endoftext|>` has the highest id, which open_clip's pooling relies on.
    """
    words = [*COLOURS, *PATTERNS, *KINDS, *_OTHER_WORDS]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("-", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=4096, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator(words, trainer)
    merges = [tuple(pair) for pair in _merges(learner)]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=merges, model_max_length=CONTEXT_LENGTH
    )


def _merges(learner: Tokenizer) -> list[list[str]]:
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]


def save_tokenizer(out_dir: Path) -> CLIPTokenizer:
    """Build it and write `vocab.json`, `merges.txt` and the tokenizer's configuration to `out_dir`."""
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(out_dir)
    tokenizer.backend_tokenizer.model.save(str(out_dir))
    return tokenizer
