"""In: two folders. Out: one verdict, its evidence on disk, and one page."""

from quantcliff.diagnosis.pair import N_FACTS, diagnose

__all__ = ["N_FACTS", "diagnose"]
