"""One change made to every tensor of what may be a tensor, or a dataclass of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch

Tree = TypeVar("Tree")


def mapped(change: Callable[..., torch.Tensor], tree: Tree, *others: Any) -> Tree:
    """The same kind of thing with `change` of each tensor in it, and of those in its place in `others`; what is no tensor stays."""
    if isinstance(tree, torch.Tensor):
        return change(tree, *others)  # type: ignore[return-value]
    if not is_dataclass(tree) or isinstance(tree, type):
        return tree
    names = [field.name for field in fields(tree)]
    changed = {name: mapped(change, getattr(tree, name), *(getattr(one, name) for one in others)) for name in names}
    return replace(tree, **changed)


def tensors_in(tree: Any) -> Iterator[torch.Tensor]:
    """The tensors of it, always in one order."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif is_dataclass(tree) and not isinstance(tree, type):
        for field in fields(tree):
            yield from tensors_in(getattr(tree, field.name))
