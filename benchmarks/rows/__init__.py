"""The rows of the benchmark: each module here has a tuple ``ROWS``, a tuple ``CURVES`` of growth, or both."""
