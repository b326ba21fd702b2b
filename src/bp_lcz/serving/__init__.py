"""A model at work: over HTTP, its client, and predictions of a file."""
