"""Makes one map of many tiles: finds the scenes of a folder, maps each tile, stores the maps and joins them."""
