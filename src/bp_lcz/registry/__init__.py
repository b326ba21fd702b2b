"""What MLflow remembers: runs of trained trials, and registered models."""
