import pytest

from bp_lcz.words import counted


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "patch", "1 patch"),
        (0, "patch", "0 patches"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (2, "city", "2 cities"),
        (1200, "block", "1,200 blocks"),
    ],
)
def test_numbers_of_things_are_said_as_people_say_them(count, noun, text):
    assert counted(count, noun) == text
