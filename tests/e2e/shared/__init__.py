"""Tests that share a system, to which they do what happens to systems."""
