"""How bands get their names."""

from types import SimpleNamespace

import pytest

from bp_lcz.sensors.names import naming_texts, why_by_order


@pytest.mark.parametrize(("description", "told"), [(None, "no description names them"), ("B02", "all are called B02")])
def test_why_bands_go_by_their_order_is_what_their_descriptions_say(description, told):
    dataset = SimpleNamespace(descriptions=(description,) * 13)
    assert naming_texts(dataset) is None
    assert why_by_order(dataset) == f"by their order, since {told}"
