"""Data path: from So2Sat HDF5 files to batches."""
