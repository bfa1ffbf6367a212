"""Memory that a long loop over large, short-lived arrays gives back at once.

The C library keeps what is freed for the next array. Where small results that stay are laid into the gaps, the next
large array no longer fits, and the process grows with every turn: checking the 210 weights of a 135 M model took 3 GB
more than it held at any moment. Arrays above a limit can be taken from the system and given back instead; that costs
a forward pass 9% (measured), so it is done where loops are of that kind and not everywhere.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

M_MMAP_THRESHOLD = -3
"""The name of the limit in malloc.h."""

LIMIT, USUAL = 2**20, 2**25
"""Bytes from which on arrays are given back at once, inside and after; the second is glibc's own upper bound."""


@contextmanager
def given_back() -> Iterator[bool]:
    """Inside, arrays of 1 MiB and more return to the system when they are freed. Does nothing without glibc.

    Yields:
        Whether the C library took it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    try:
        yield bool(mallopt and mallopt(M_MMAP_THRESHOLD, LIMIT))
    finally:
        if mallopt:
            mallopt(M_MMAP_THRESHOLD, USUAL)
