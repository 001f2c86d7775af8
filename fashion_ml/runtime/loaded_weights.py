"""Weights put into a model so that each one comes from the file: names are brought to the model's spelling, and what does not fit is an error.

Libraries fill a weight that they do not find with a random one, and leave out what they do not know, without a word that a user sees.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr

_WRAPPERS = ("module", "_orig_mod")
"""Parts of a name that DistributedDataParallel and torch.compile put in, at any place."""
_PREFIXES = ("text_encoder", "transformer", "text_model", "unet", "vae", "cond_stage_model", "first_stage_model")
"""First parts of a name that say which model it is of."""
_OLD_ATTENTION = re.compile(r"(attentions\.\d+\.)(query|key|value|proj_attn)\.")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_NO_WEIGHT = re.compile(r"(^|\.)(position_ids|num_batches_tracked)$")
"""Counters that older libraries saved; they hold nothing that was learned."""
_OTHER_HALF = ("vision_model.", "visual_projection.", "text_projection", "logit_scale", "logit_bias")
"""What a whole CLIP has beside its text encoder."""
_QUANTISED = re.compile(r"\.(absmax|quant_map|quant_state|nested_absmax|scale_weight|weight_scale|qweight|qzeros|scales)\b")
_LORA = re.compile(r"lora_(A|B|up|down|E)\b")


def unwrapped(name: str) -> str:
    """A weight's name without what DistributedDataParallel and torch.compile put in."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def spelled(name: str) -> str:
    """A weight's name without wrappers and without the model's own name before it, the attention of old autoencoders under its new names."""
    parts = unwrapped(name).split(".")
    while len(parts) > 1 and parts[0] in _PREFIXES:
        parts = parts[1:]
    return _OLD_ATTENTION.sub(lambda match: f"{match[1]}{_NEW_ATTENTION[match[2]]}.", ".".join(parts))


def fill(model: Any, tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Put a file's tensors into a model, whose weights may be on the meta device; they keep the file's precision.

    `what` begins the message, such as `model.base: 'folder/unet'`. InputError as `fitted`, and for NaN or Inf.
    """
    chosen = fitted(model.state_dict(), tensors, what)
    check_finite(chosen, what)
    model.load_state_dict(chosen, strict=False, assign=True)  # fitted left out nothing but counters


def fitted(
    wanted: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    what: str,
    shown: Callable[[str], str] = lambda name: name,
) -> dict[str, torch.Tensor]:
    """A file's tensors under the names of a model's state (`wanted`).

    InputError that names the first of those that are missing, of another shape, quantised or unknown to the model, how many there are, and
    why that usually is; `shown` gives the file's name for a wanted one.
    """
    found = check_names(wanted, tensors, what, shown)
    chosen = {name: _of_shape(tensors[given], tuple(wanted[name].shape)) for name, given in found.items()}
    other = [name for name, tensor in chosen.items() if tensor.shape != wanted[name].shape]
    if other:
        has, needs = list(chosen[other[0]].shape), list(wanted[other[0]].shape)
        count = "1 weight" if len(other) == 1 else tr("{count} weights", count=len(other))
        raise InputError(
            tr(
                "{what} holds {count} of another shape, {part}{shown}: {has}, and by its configuration {needs}; it "
                "is of another model or was changed (tokens added, pruned): give files of one model",
                what=what,
                count=count,
                part=tr("first ") if len(other) > 1 else "",
                shown=shown(other[0]),
                has=has,
                needs=needs,
            )
        )
    whole = [name for name, tensor in chosen.items() if wanted[name].is_floating_point() and not tensor.is_floating_point()]
    if whole:
        raise InputError(
            tr(
                "{what} holds {count} weights as whole numbers (first {shown}, {dtype}): it is quantised; give the "
                "weights in half or full precision",
                what=what,
                count=len(whole),
                shown=shown(whole[0]),
                dtype=chosen[whole[0]].dtype,
            )
        )
    return chosen


def check_names(
    wanted: Collection[str],
    tensors: Mapping[str, torch.Tensor],
    what: str,
    shown: Callable[[str], str] = lambda name: name,
) -> dict[str, str]:
    """The file's name for each wanted one. InputError as `fitted` for names that are missing or unknown.

    A weight may be there under two spellings, as in early merges; InputError where the two have different values.
    """
    ours = {spelled(name): name for name in wanted}
    given: dict[str, str] = {}
    for name in tensors:
        short = spelled(name)
        if short in given and short in ours and not torch.equal(tensors[given[short]], tensors[name]):
            raise InputError(
                tr(
                    "{what} holds one weight twice with different values, as {given} and as {name}; save the model once",
                    what=what,
                    given=given[short],
                    name=name,
                )
            )
        given.setdefault(short, name)
    missing = [shown(name) for short, name in ours.items() if short not in given and not _NO_WEIGHT.search(name)]
    beside = {name: short for short, name in given.items() if short not in ours and not _NO_WEIGHT.search(name)}
    half = [name for name, short in beside.items() if short.startswith(_OTHER_HALF)]
    unknown = [name for name in beside if name not in set(half)]
    if missing or unknown:
        raise InputError(_names_differ(what, missing, unknown, len(wanted), list(ours)))
    if half:
        say(
            tr(
                "{what}: {count} tensors of the rest of a CLIP are not read (first {half})",
                what=what,
                count=len(half),
                half=half[0],
            )
        )
    return {name: given[short] for short, name in ours.items() if short in given}


def _of_shape(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A 1 x 1 convolution is a linear layer's matrix, and the other way round: files have either."""
    same = [size for size in tensor.shape if size != 1] == [size for size in shape if size != 1]
    return tensor.reshape(shape) if same and max(tensor.dim(), len(shape)) <= 4 else tensor


def _names_differ(what: str, missing: list[str], unknown: list[str], total: int, ours: Collection[str]) -> str:
    said = []
    if missing:
        first = "" if len(missing) == 1 else tr("first ")
        said.append(
            tr(
                "lacks {count} of its {total} weights ({first}{missing})",
                count=len(missing),
                total=total,
                first=first,
                missing=missing[0],
            )
        )
    if unknown:
        first = "" if len(unknown) == 1 else tr("first ")
        said.append(
            tr(
                "holds {count} that {part} model does not have ({first}{unknown})",
                count=len(unknown),
                part=tr("its") if not missing else tr("the"),
                first=first,
                unknown=unknown[0],
            )
        )
    return f"{what} {tr(' and ').join(said)}: {_cause(missing, unknown, total, ours)}"


def _cause(missing: list[str], unknown: list[str], total: int, ours: Collection[str]) -> str:
    if any(_LORA.search(name) for name in unknown):
        return tr("it was saved with a LoRA on it; merge the LoRA first, or save the model without it")
    if any(_QUANTISED.search(name) for name in unknown):
        return tr("it is quantised; give the weights in half or full precision")
    prefix = _common_prefix(unknown)
    if prefix and missing and any(name.removeprefix(prefix) in set(ours) for name in unknown):
        return tr("a wrapper put {prefix!r} before the names; save the model inside the wrapper, or rename them", prefix=prefix)
    if not unknown:
        return tr("half a download, or the model was pruned; download it again or give a whole one")
    if len(missing) == total:
        return tr("these are another model's weights; give those of this one")
    return tr("its configuration is another model's, or it was changed; give files of one model")


def _common_prefix(names: Iterable[str]) -> str:
    heads = Counter(name.partition(".")[0] for name in names)
    return f"{next(iter(heads))}." if len(heads) == 1 else ""


def check_finite(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """InputError that names the first tensor with NaN or Inf in it, how many there are and how many numbers they spoil."""
    broken = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if broken:
        spoiled = sum(int((~torch.isfinite(tensors[name].float())).sum()) for name in broken)
        which = (
            f"{broken[0]}" if len(broken) == 1 else tr("{count} tensors, first {broken}", count=len(broken), broken=broken[0])
        )
        raise InputError(
            tr(
                "{what} holds NaN or Inf in {which} ({spoiled} numbers): a training or merge that went wrong, or a "
                "conversion to half precision; give another file",
                what=what,
                which=which,
                spoiled=spoiled,
            )
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Least and largest value are NaN where any is: ten times as fast as asking every number."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    tensor = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no order
    return all(math.isfinite(value.item()) for value in tensor.detach().aminmax())
