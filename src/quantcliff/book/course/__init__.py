"""In: a student's answer to an exercise of the book. Out: whether it is right and, if it is not, what is wrong with it.

Every chapter with exercises has a module here, whose `EXERCISES` says what is right and which mistakes are likely.
"""

from quantcliff.book.course.checking import Outcome, check, expected, likely_mistakes, progress, require
from quantcliff.book.course.kinds import Choice, Function, Number, Wrong

__all__ = [
    "Choice",
    "Function",
    "Number",
    "Outcome",
    "Wrong",
    "check",
    "expected",
    "likely_mistakes",
    "progress",
    "require",
]
