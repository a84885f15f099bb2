"""A miniature web with known truth: searches, photographs and faults, for the demo and the tests."""
