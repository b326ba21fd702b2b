"""So2Sat LCZ42: its HDF5 form, releases, published statistics, download and identity."""
