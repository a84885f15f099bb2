"""Materialises progress from events."""
