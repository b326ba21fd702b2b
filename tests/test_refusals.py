"""The helper that judges refusals does fail."""

import pytest

from bp_lcz.errors import BusyError, UserError
from tests.refusals import refuses


@pytest.mark.parametrize(
    ("where", "facts", "kind"),
    [
        ("b.h5", [], UserError),
        ("a.h5", [8], UserError),
        ("a.h5", ["patch"], UserError),
        ("a.h5", [18], BusyError),
    ],
)
def test_another_place_fact_or_kind_is_not_taken_for_the_refusal(where: str, facts: list[object], kind: type) -> None:
    with refuses("a.h5", 18, "18 patches", "`bp-lcz pack`"):
        raise UserError("a.h5", "18 patches; run `bp-lcz pack`")
    with pytest.raises((AssertionError, UserError)), refuses(where, *facts, kind=kind):
        raise UserError("a.h5", "18 patches; run `bp-lcz pack`")


def test_a_refusal_is_one_line_whatever_names_it_quotes() -> None:
    assert str(UserError("a\nb.h5", "holds c\x85\x1bd")) == "a b.h5: holds c d"
    long = str(UserError("z.kml", f"nothing tells zones (layers: {'[' * 5000}); name them LCZ 1"))
    assert len(long) < 2000
    assert (long[:5], long[-5:]) == ("z.kml", "LCZ 1")


def test_no_error_is_no_refusal() -> None:
    with pytest.raises(pytest.fail.Exception), refuses("a.h5"):
        pass
