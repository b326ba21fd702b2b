"""From HDF5 files to batches: normalisation, the packed form, stores of several tiers, the loader."""
