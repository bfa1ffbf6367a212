"""In: chapters (MyST) and parameters. Out: executed notebooks and a site; and what a chapter's cells say and claim."""

from quantcliff.book import front
from quantcliff.book.chapters import Book, Chapter, check_parameters, read_parameter_file
from quantcliff.book.claims import ClaimError, Claims
from quantcliff.book.site import assemble, build, digest, execute, keep_table, render, summary
from quantcliff.book.text import as_table, as_token, ranged, say, say_table

__all__ = [
    "Book",
    "Chapter",
    "ClaimError",
    "Claims",
    "as_table",
    "as_token",
    "assemble",
    "build",
    "check_parameters",
    "digest",
    "execute",
    "front",
    "keep_table",
    "ranged",
    "read_parameter_file",
    "render",
    "say",
    "say_table",
    "summary",
]
