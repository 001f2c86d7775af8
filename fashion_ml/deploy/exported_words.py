"""The words that were trained along with a LoRA, as files of their own beside what is exported."""

from __future__ import annotations

from pathlib import Path

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import say


def word_files(lora: Path, output: Path) -> list[Path]:
    """Where `write_words` writes the words of a LoRA's file: into a folder, beside a file. InputError where one of them is there already."""
    from fashion_ml.models.kohya_format import read_metadata
    from fashion_ml.models.new_words import words_in

    folder = output.parent if output.suffix == ".safetensors" else output
    paths = [folder / f"{word.token}.safetensors" for word in words_in(read_metadata(lora), f"lora: {str(lora)!r}")]
    for path in paths:
        if path == output or path.exists():
            raise InputError(
                f"--output: the LoRA's own word is to be written to {str(path)!r}, which exists already; give a place in another folder"
            )
    return paths


def write_words(lora: Path, output: Path) -> list[str]:
    """Write each word of a LoRA's file as WebUIs and diffusers read it, and say so; the words. InputError as `word_files`."""
    from fashion_ml.models.kohya_format import read_metadata
    from fashion_ml.models.new_words import how_to_call, words_in, write_embedding

    words = words_in(read_metadata(lora), f"lora: {str(lora)!r}")
    for word, path in zip(words, word_files(lora, output), strict=True):
        write_embedding(path, word)
        say(how_to_call(word.token, path.name if output.suffix != ".safetensors" else str(path)))
    return [word.token for word in words]
