"""The base of a pipeline that trains, as a pipeline of its own on the same weights: nothing is loaded, and the training is not touched.

What is put on the new pipeline, lowered, moved or taken from it is the new one's alone: its modules and parameters are others, and only the
numbers in them are the same memory until one of the two replaces them.
"""

from __future__ import annotations

import copy
from typing import Any

from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.families.known import family_of
from fashion_ml.models.stable_diffusion import quiet_libraries
from fashion_ml.runtime.language import tr

_INSIDE = "base_layer"
"""How peft and this package call the layer of the base below one that trains."""


def shared_base(pipeline: Any) -> Any:
    """A frozen pipeline in evaluation mode with the base's weights, without what trains on them; schedule and tokenizer are copies."""
    family = family_of(pipeline)
    with quiet_libraries():
        models = {part: _bare(getattr(pipeline, part), part) for part in family.models}
        others = {name: one for name, one in pipeline.components.items() if name not in models}
        own = ("scheduler", *(part.tokenizer for part in family.texts))
        others |= {name: copy.deepcopy(others[name]) for name in own}
        shared = family.made({**models, **others}, pipeline.config)
    shared.set_progress_bar_config(disable=True)
    return shared


def _bare(model: Any, part: str) -> Any:
    """A model of the same configuration whose parameters are the base's."""
    config = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
    bare, there = empty_model(part, config, tr("model.base: {part}", part=part)), model.state_dict()
    found = {name: there[_name_in(there, name)] for name in bare.state_dict()}
    bare.load_state_dict(found, assign=True)
    return bare.requires_grad_(False).eval()


def _name_in(there: dict[str, Any], name: str) -> str:
    """A weight's name in a model that trains, where layers of a LoRA are around it."""
    head, _, tail = name.rpartition(".")
    while name not in there:
        head = f"{head}.{_INSIDE}"
        name = f"{head}.{tail}"
        assert head.count(_INSIDE) < 4, f"{name} is not in the model that trains"
    return name
