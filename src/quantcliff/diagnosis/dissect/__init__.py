"""A few facts, looked at one by one: what both models say, and what of the answer is there in every layer."""

from quantcliff.diagnosis.dissect.choice import choose
from quantcliff.diagnosis.dissect.edition import FOLDER, make, shipped, small, study_of
from quantcliff.diagnosis.dissect.measure import ATTENTION, LENS, PATCH, SAID, facts, measure

__all__ = ["ATTENTION", "FOLDER", "LENS", "PATCH", "SAID", "choose", "facts", "make", "measure", "shipped", "small",
           "study_of"]  # fmt: skip
