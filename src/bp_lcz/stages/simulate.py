"""Stage ``simulate``: makes the demo data."""

from bp_lcz.demo.simulate import simulate
from bp_lcz.params import Params
from bp_lcz.paths import DEMO


def run(params: Params) -> None:
    """Write the demo data set, even if the pipeline runs on another data set."""
    section = params.simulate
    simulate(
        DEMO,
        seed=section.seed,
        patches=section.patches.model_dump(),
        cities=section.cities.model_dump(),
        frequencies=section.frequencies,
        label_noise=section.label_noise,
        sen1=section.sen1,
    )
