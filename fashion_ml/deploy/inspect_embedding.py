"""What the file of a textual inversion holds: how it is called, how many vectors, of which base, how large, and whether it is damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fashion_ml.deploy.inspect_file import precision, read_tensors
from fashion_ml.runtime.input_file import read_whole


def inspect_embedding(path: Path) -> dict[str, Any] | None:
    """Form, word, vectors, widths, base, what can be done with it; precision, each vector's L2 norm by tensor, NaN, hash and metadata of a
    textual inversion. None when the file is something else; InputError when it is no .safetensors file."""
    from fashion_ml.models.embedding_file import recognise_embedding

    tensors, metadata = read_tensors(path)
    form = recognise_embedding({name: tuple(tensor.shape) for name, tensor in tensors.items()}, path.stem)
    if form is None or not all(tensor.is_floating_point() for tensor in tensors.values()):
        return None
    content = read_whole(path)
    return {
        "file": str(path),
        "bytes": len(content),
        "kind": "textual inversion",
        "names": form.names,
        "word": form.word,
        "vectors": form.vectors,
        "widths": list(form.widths),
        "base": form.base,
        "use": form.use,
        "dtype": sorted({precision(tensor) for tensor in tensors.values()}),
        "norms": {name: tensor.double().reshape(-1, tensor.shape[-1]).norm(dim=1).tolist() for name, tensor in tensors.items()},
        "not_finite": sorted(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())),
        "sha256": hashlib.sha256(content).hexdigest(),
        "metadata": metadata,
    }
