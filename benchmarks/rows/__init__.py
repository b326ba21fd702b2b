"""The rows of the benchmark: each module here has a tuple ``ROWS`` and, if it has any, a tuple ``CURVES`` of growth."""
