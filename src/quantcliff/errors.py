"""The one error a user is meant to see."""


class InputError(ValueError):
    """Something the user gave cannot be used: one sentence that says what is wrong and what to do."""
