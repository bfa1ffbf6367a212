"""The mixture: which parts of a model need more bits, by a task and by general loss, and what text to calibrate on.

In: a study. Out: the tables that ship with the chapter; a scheme that gives each unit its width.
"""

from quantcliff.stages.mixture import allocation, blends, findings, fisher, modes, outcomes, ranking, rules, texts
from quantcliff.stages.mixture.arms import Arm, Race, scheme_of
from quantcliff.stages.mixture.edition import (
    FOLDER,
    TABLES,
    allotted,
    check,
    make,
    ship,
    shipped_sensitivity,
    study_of,
    subject_of,
)
from quantcliff.stages.mixture.sensitivity import ALONE, DUAL, OPTIONS, Subject, damage, measure, units_of
from quantcliff.stages.mixture.texts import Sizes

__all__ = ["ALONE", "DUAL", "FOLDER", "OPTIONS", "TABLES", "Arm", "Race", "Sizes", "Subject", "allocation", "allotted",
           "blends", "check", "damage", "findings", "fisher", "make", "measure", "modes", "outcomes", "ranking",
           "rules", "scheme_of", "ship", "shipped_sensitivity", "study_of", "subject_of", "texts",
           "units_of"]  # fmt: skip
