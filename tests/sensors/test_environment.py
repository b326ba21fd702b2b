"""What a shell may say of another installation of GDAL and PROJ does not matter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("variable", ["PROJ_LIB", "PROJ_DATA"])
def test_tables_of_another_installation_are_not_used(tmp_path: Path, variable: str) -> None:
    (tmp_path / "proj.db").touch()
    script = (
        "import bp_lcz.scenes.tile; from rasterio.warp import transform; "
        "print(round(transform('EPSG:4326', 'EPSG:32632', [9], [48])[0][0]))"
    )
    environment = os.environ | {variable: str(tmp_path), "GDAL_DATA": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "500000\n", done.stderr
