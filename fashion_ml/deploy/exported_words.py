"""The words that were trained along with a LoRA, as files of their own beside what is exported."""

from __future__ import annotations

from pathlib import Path

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr


def word_files(lora: Path, output: Path, form: str) -> list[Path]:
    """Where `write_words` writes the words of a LoRA's file: beside a file, into a folder. InputError where something else is there already."""
    from fashion_ml.models.kohya_format import read_metadata
    from fashion_ml.models.new_words import is_embedding_of, words_in
    from fashion_ml.runtime.weight_files import is_safetensors

    if not is_safetensors(lora):
        return []  # refused by whoever converts it
    folder = output.parent if _is_file(output, form) else output
    paths = []
    for word in words_in(read_metadata(lora), f"lora: {str(lora)!r}"):
        path = folder / f"{word.token}.safetensors"
        if path.name.casefold() == output.name.casefold():
            raise InputError(
                tr(
                    "--output: {output!r} is what the file of the LoRA's own word is called; give another name",
                    output=str(output),
                )
            )
        if path.exists() and not is_embedding_of(path, word):
            raise InputError(
                tr(
                    "--output: the LoRA's own word is to be written to {path!r}, where there is another file; give a "
                    "place in another folder",
                    path=str(path),
                )
            )
        paths.append(path)
    return paths


def write_words(lora: Path, output: Path, form: str) -> list[str]:
    """Write each word of a LoRA's file as WebUIs and diffusers read it, and say so; the words. InputError as `word_files`."""
    from fashion_ml.models.kohya_format import read_metadata
    from fashion_ml.models.new_words import how_to_call, words_in, write_embedding

    words = words_in(read_metadata(lora), f"lora: {str(lora)!r}")
    for word, path in zip(words, word_files(lora, output, form), strict=True):
        write_embedding(path, word)
        say(how_to_call(word.token, str(path) if _is_file(output, form) else path.name))
    return [word.token for word in words]


def _is_file(output: Path, form: str) -> bool:
    return form == "kohya" or (form == "merged" and output.suffix == ".safetensors")
