"""What ends the demo early, in words for whoever started it."""


class DemoError(Exception):
    """The demo cannot go on. The text says why, and what can be done."""
