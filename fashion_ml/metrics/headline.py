"""What of an evaluation stands on its training run too: few numbers, for MLflow draws a chart of each before those of the training."""

from __future__ import annotations

from collections.abc import Collection

from fashion_ml.metrics.registry import LOSSES, SIMILARITY_OF, TOTAL

_ACCURACY = "domain_accuracy"
_MEANS = {
    *(*LOSSES, *SIMILARITY_OF.values()),
    *(_ACCURACY, f"latent_{_ACCURACY}", f"{_ACCURACY}_unchanged", f"{_ACCURACY}_real", "diversity", "cycle_l1"),
}
_RANKED_BY = (f"gain_{TOTAL}", "gain_visual_loss", "gain_color_loss", _ACCURACY, TOTAL, "visual_loss")


def headline(names: Collection[str]) -> set[str]:
    """Of the numbers of an evaluation by their names in MLflow: the losses, the similarities and how well domains are hit, and with its
    interval the one that runs are ranked by."""
    first = next((name for name in _RANKED_BY if name in names), "")
    return (_MEANS | {first, f"{first}_low", f"{first}_high"}) & set(names)
