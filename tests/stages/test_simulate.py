from pathlib import Path
from typing import Any

from bp_lcz.stages import simulate
from tests.stages.test_validate import params_for


def test_the_demo_data_are_made_with_all_parameters_whatever_the_data_set(monkeypatch):
    calls: list[tuple[Path, dict[str, Any]]] = []
    monkeypatch.setattr(simulate, "simulate", lambda root, **options: calls.append((root, options)))
    params = params_for("somewhere/else")
    simulate.run(params)
    assert calls == [(Path("data/demo"), params.simulate.model_dump())]
