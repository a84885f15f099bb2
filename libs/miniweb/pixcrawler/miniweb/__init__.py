"""A miniature web with known truth: searches, photographs and faults, for demo and tests.

Two searches in front of real photographs and the faults of the real web, and for every URL the
outcome that is right. `plans` says what there is, `site.running` serves it, `compare` compares.
"""
