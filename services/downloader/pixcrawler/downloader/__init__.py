"""Resolves and fetches the candidates of a chunk."""
