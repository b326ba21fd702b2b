"""Numbers: metrics, intervals, tests, and the results of a run's trials."""
