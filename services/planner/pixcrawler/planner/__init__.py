"""Splits jobs into chunks, admits them within capacity, closes rounds."""
