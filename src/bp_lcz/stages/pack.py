"""Stage ``pack``: the arrays that training reads."""

import json
from pathlib import Path

from bp_lcz.errors import UserError
from bp_lcz.params import Params
from bp_lcz.patches.pack import pack
from bp_lcz.paths import PACKED, SUMMARY


def run(params: Params) -> None:
    """Pack the data set that the gate has passed.

    Raises:
        UserError: if there is no summary of the gate, or it is that of other data.
    """
    try:
        summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(SUMMARY, "not found; run `bp-lcz validate`") from None
    except ValueError as error:
        raise UserError(SUMMARY, f"not valid JSON ({error}); run `bp-lcz validate` again") from None
    pack(Path(params.dataset.root), summary, PACKED)
