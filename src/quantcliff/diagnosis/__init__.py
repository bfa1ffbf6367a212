"""In: two folders. Out: one verdict, what to do about it, its evidence on disk, and one page."""

from quantcliff.diagnosis.pair import N_FACTS, diagnose

__all__ = ["N_FACTS", "diagnose"]
