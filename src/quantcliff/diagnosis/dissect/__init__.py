"""A few facts, looked at one by one: what both models say, and what of the answer is there in every layer."""

from quantcliff.diagnosis.dissect.choice import choose

__all__ = ["choose"]
