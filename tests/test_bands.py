"""Channels, their groups, and the errors of files that name them wrongly."""

import pytest

from bp_lcz.bands import ALL_CHANNELS, GROUPS, SEN1_BANDS, SEN2_BANDS, Channels, resolve_bands
from bp_lcz.scheme import BUILT, CODES, NATURAL
from tests.refusals import refuses


def test_every_channel_belongs_to_exactly_one_group() -> None:
    members = [band for bands in GROUPS.values() for band in bands]
    assert sorted(members) == sorted(SEN1_BANDS + SEN2_BANDS)


def test_groups_point_at_their_channels_in_any_order_of_the_file() -> None:
    for channels in (ALL_CHANNELS, Channels(SEN1_BANDS[::-1], SEN2_BANDS[::-1])):
        for group, positions in channels.groups.items():
            assert tuple(channels.names[position] for position in positions) == GROUPS[group]


def test_official_counts_need_no_names() -> None:
    assert resolve_bands("sen1", 8, None, "f") == SEN1_BANDS
    assert resolve_bands("sen2", 10, None, "f") == SEN2_BANDS


@pytest.mark.parametrize(
    ("count", "named", "facts"),
    [
        (9, None, ["9 channels", 10, "'bands'"]),
        (2, ["B02"], ["2 channels", "'bands'", 1]),
        (2, ["B02", "B10"], ["B10"]),
        (2, ["B02", "B02"], ["twice", "B02, B02"]),
    ],
)
def test_wrong_names_are_refused(count: int, named: list[str] | None, facts: list[object]) -> None:
    with refuses("testing.h5", "sen2", *facts):
        resolve_bands("sen2", count, named, "testing.h5")


def test_ten_built_and_seven_natural_zones() -> None:
    assert [CODES[i] for i in BUILT] == [str(i) for i in range(1, 11)]
    assert "".join(CODES[i] for i in NATURAL) == "ABCDEFG"
