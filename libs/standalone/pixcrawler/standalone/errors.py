"""What standalone mode raises."""


class StandaloneError(Exception):
    """Standalone mode cannot go on; the message is one line that says what to do."""
