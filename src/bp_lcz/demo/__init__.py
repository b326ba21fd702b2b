"""The simulator of the demo data, and the judge of how real they are."""
