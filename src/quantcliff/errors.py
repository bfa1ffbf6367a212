"""The errors a user is meant to see, without a traceback."""


class InputError(ValueError):
    """Something the user gave cannot be used: one sentence that says what is wrong and what to do."""


class BuildError(RuntimeError):
    """The book could not be built: a chapter stopped in one of its cells, or rendering it gave a warning."""
