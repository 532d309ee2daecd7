"""What a person did wrong, told before anything is started or written."""


class SpecError(ValueError):
    """Bad input. The message names file, key and value, what is allowed, and what to do."""
