"""Stage ``pack``: writes the arrays that training reads."""

from pathlib import Path

from bp_lcz.params import Params
from bp_lcz.patches.pack import pack
from bp_lcz.paths import PACKED, SUMMARY
from bp_lcz.records import GateSummary


def run(params: Params) -> None:
    """Pack the data set that the gate has passed.

    Raises:
        UserError: if there is no summary of the gate, or the summary is of other data.
    """
    pack(Path(params.dataset.root), GateSummary.read(SUMMARY), PACKED)
