"""Many tiles as one map: which scenes a folder holds, the map of each, where results go, and what joins them."""
