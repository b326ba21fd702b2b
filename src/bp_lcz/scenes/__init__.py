"""From georeferenced scenes to So2Sat's form: cutting into patches, dividing into splits."""

import bp_lcz.sensors  # noqa: F401 - sets GDAL's tables, before rasterio is imported
