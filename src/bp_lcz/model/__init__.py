"""The network, its loss and its training step."""
