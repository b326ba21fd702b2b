"""What MLflow remembers: runs of trained cells, and registered models."""
