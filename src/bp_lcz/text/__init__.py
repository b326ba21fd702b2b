"""Text side: class x group prompts and the frozen encoder."""
