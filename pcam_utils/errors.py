"""The one exception for bad input: a sentence that says what is wrong, where, and what to do."""


class InputError(ValueError):
    """Input that cannot be used; the message is one sentence for the person who gave it."""
