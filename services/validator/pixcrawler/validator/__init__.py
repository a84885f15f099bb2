"""Decides what becomes of every image of a chunk."""
