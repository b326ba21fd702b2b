"""The quality gate: statistics of every patch, what is expected of them, leakage, and their pages and figures."""
