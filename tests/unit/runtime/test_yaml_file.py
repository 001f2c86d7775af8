"""YAML whose values are not of the kind their tags say: PyYAML's own readers end in other errors than YAML's."""

from __future__ import annotations

import pytest
import yaml

from fashion_ml.runtime.yaml_file import parsed, what_is_wrong


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("!!bool maybe", "'maybe' is no bool"),
        ("!!int ''", "'' is no int"),
        ("!!int '-'", "'-' is no int"),
        ("!!int _", "'_' is no int"),
        ("!!float ''", "'' is no float"),
        ("!!timestamp soon", "'soon' is no timestamp"),
        ("2024-13-01", "month must be in 1..12"),
    ],
)
@pytest.mark.parametrize("form", ["network: {{rank: {}}}", "? {}\n: 1", "[1, {}]"])
def test_it_is_told_by_its_line(value: str, says: str, form: str):
    with pytest.raises(yaml.YAMLError) as error:
        parsed(form.format(value))
    assert what_is_wrong(error.value).startswith(f"line 1, {says}")
