"""Errors whose message is all that a user needs."""


class UsageError(ValueError):
    """What was asked for cannot be done, and the message says what to change.

    The command line prints the message alone; any other exception keeps its traceback.
    """
