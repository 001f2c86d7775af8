"""What `fashion-ml runs` says of a verdict: where a gain was measured and none was given it says so."""

from __future__ import annotations

import pytest

from fashion_ml.runs.listing import Listing
from fashion_ml.tracking.run_reader import RunRow
from tests.unit.runs.test_leaders import ends, lora, row


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lora("dress", 0.05, 0.02, 0.08, "better"), "better"),
        (lora("dress", 0.05, -0.02, 0.08, "not shown"), "not shown"),
        (lora("dress", 0.05, 0.02, 0.08, "no verdict"), "no verdict"),
        (row("not measured"), ""),
        (row("coat", "train_stargan", metrics=ends("eval/domain_accuracy", 0.8, 0.7, 0.9)), ""),
    ],
)
def test_a_gain_without_a_verdict_is_said_to_have_none(run: RunRow, said: str):
    ((*_, verdict, _, _),) = Listing([run], False).cells()
    assert verdict == said
    assert Listing([run], False).to_dict()["runs"][0]["verdict"] == (said if said in ("better", "not shown") else None)
