"""A few facts, looked at one by one: what both models say, and what of the answer is there in every layer."""

from quantcliff.diagnosis.dissect.choice import EACH, choose, reference
from quantcliff.diagnosis.dissect.edition import FOLDER, again, make, shipped, small, study_of
from quantcliff.diagnosis.dissect.measure import ATTENTION, LENS, PATCH, SAID, facts_of, measure

__all__ = ["ATTENTION", "EACH", "FOLDER", "LENS", "PATCH", "SAID", "again", "choose", "facts_of", "make", "measure",
           "reference", "shipped", "small", "study_of"]  # fmt: skip
