"""What files of Sentinel-1 and Sentinel-2 hold: from rasters in any form to backscatter and reflectance."""

import importlib.util
import os
from pathlib import Path

_rasterio = importlib.util.find_spec("rasterio")
assert _rasterio is not None
assert _rasterio.origin is not None
# rasterio's wheels bring the tables of their own GDAL and PROJ. A shell's settings may point to the tables of another
# installation. Those have other versions, and rasterio then knows no coordinate system. So remove these settings
# before rasterio is imported.
for _variable, _tables in {"PROJ_LIB": "proj_data", "PROJ_DATA": "proj_data", "GDAL_DATA": "gdal_data"}.items():
    if Path(_rasterio.origin).with_name(_tables).is_dir():
        os.environ.pop(_variable, None)
