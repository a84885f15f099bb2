"""The command, against real servers."""
