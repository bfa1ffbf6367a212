"""The boundary: a grid of quantized models, whether they are of one kind or of two, and what foretells on which side a
model will fall.

In: studies of two models. Out: boundary.parquet, cell by cell; a number that predicts answers kept.
"""

from quantcliff.stages.boundary.cells import BITS, Cell, atlas_grid, between_grid, made, smollm2_grid
from quantcliff.stages.boundary.density import TRAINED, density
from quantcliff.stages.boundary.edition import FACTS, FOLDER, SHOWN, make, parted, shipped_grid, study_of
from quantcliff.stages.boundary.kinds import COORDINATES, Kinds, in_middle, kinds, standardised, widest
from quantcliff.stages.boundary.measures import Bench, measure
from quantcliff.stages.boundary.numbers import NUMBERS
from quantcliff.stages.boundary.outlook import check, errors, outlook
from quantcliff.stages.boundary.predictors import Curve, best, compare, left_out, ranking
from quantcliff.stages.boundary.rules import PUBLISHED, at_equal_snr, beside_rounding, between_way, off, rules

__all__ = ["BITS", "COORDINATES", "FACTS", "FOLDER", "NUMBERS", "PUBLISHED", "SHOWN", "TRAINED", "Bench", "Cell",
           "Curve", "Kinds", "at_equal_snr", "atlas_grid", "beside_rounding", "best", "between_grid", "between_way",
           "check", "compare", "density", "errors", "in_middle", "kinds", "left_out", "made", "make", "measure", "off",
           "outlook", "parted", "ranking", "rules", "shipped_grid", "smollm2_grid", "standardised", "study_of",
           "widest"]  # fmt: skip
