"""What a refusal of bad input must be, whatever its sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bp_lcz.errors import UserError


@contextmanager
def refuses(
    where: object, *facts: object, kind: type[UserError] = UserError
) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """The block ends with one line of an error of exactly this type, at this place, that states these facts.

    A fact is a number, a name, an option or a command that a reader needs; it stands as a word of its own.
    """
    with pytest.raises(kind) as caught:
        yield caught
    assert (type(caught.value), caught.value.where) == (kind, str(where)), caught.value
    assert not [fact for fact in facts if not states(caught.value.what, fact)], caught.value


def states(text: str, fact: object) -> bool:
    """Whether a text has this number, name or option as a word of its own: 18 does not stand in 18432, 0.18 or 18,432."""
    return re.search(rf"(?<!\w)(?<!\d[.,]){re.escape(str(fact))}(?!\w|[.,]\d)", text) is not None
