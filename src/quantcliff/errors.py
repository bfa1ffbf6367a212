"""The errors a user is meant to see, without a traceback."""


class InputError(ValueError):
    """Something the user gave cannot be used: one sentence that says what is wrong and what to do."""


class BuildError(RuntimeError):
    """The book could not be built: a chapter stopped in one of its cells, or rendering it gave a warning."""


def first_line(error: Exception) -> str:
    """What an exception of a library says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
