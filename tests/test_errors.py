from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from bp_lcz.errors import first_mistake


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Square(Strict):
    side: int = 1


class Circle(Strict):
    radius: int = 1


class Drawing(Strict):
    colour: Literal["red", "green"] = "red"
    first: Square | None = None
    others: list[Circle] = []
    any_form: Square | Circle = Square()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"frist": {}}, "frist: unknown key; known: colour, first, others, any_form"),
        ({"first": {"sied": 1}}, "first.sied: unknown key; known: side"),
        ({"others": [{}, {"raduis": 1}]}, "others.1.raduis: unknown key; known: radius"),
    ],
)
def test_an_unknown_key_is_followed_by_the_known_ones_of_its_place(found, said):
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(found)
    assert first_mistake(caught.value, model=Drawing) == said


def test_a_value_that_is_none_of_a_few_is_followed_by_them():
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate({"colour": "gren"})
    assert first_mistake(caught.value) == "colour: 'gren'; expected 'red' or 'green'"


def test_below_a_choice_of_models_an_unknown_key_is_named_alone():
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate({"any_form": {"sied": 1}})
    assert first_mistake(caught.value, model=Drawing).endswith("sied: unknown key")
