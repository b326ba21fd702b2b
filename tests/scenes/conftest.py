"""A scene of two zones that everything is found in by itself."""

from pathlib import Path

import pytest

from bp_lcz.bands import SEN2_BANDS
from tests.scenes.rasters import optical, radar, write_tif, zones


@pytest.fixture
def scene(tmp_path: Path) -> dict[str, Path]:
    return {
        "s1": write_tif(tmp_path / "s1.tif", radar()),
        "s2": write_tif(tmp_path / "s2.tif", optical(), names=list(SEN2_BANDS)),
        "labels": write_tif(tmp_path / "lcz.tif", zones()),
    }
