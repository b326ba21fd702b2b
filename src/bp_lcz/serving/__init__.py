"""Uses a trained model: a server over HTTP, its client, and predictions for a file."""
