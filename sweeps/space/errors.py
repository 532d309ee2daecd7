"""The error for bad input by the user, raised before anything is started or written."""


class SpecError(ValueError):
    """Bad input. The message names the file, the key and the value, what is allowed, and what to do."""
