"""Activations: inputs of linear layers, keys and values quantized while a model runs, and tasks beside recall.

In: a study. Out: activations.parquet.
"""

from quantcliff.stages.activations import lookup, massive, tasks, verdicts, ways
from quantcliff.stages.activations.edition import (
    FOLDER,
    LOOKUP,
    TASKS,
    all_ways,
    make,
    scales,
    some_ways,
    study_of,
    weights_of,
)
from quantcliff.stages.activations.measures import measure, modes, value
from quantcliff.stages.activations.outcomes import damaged, is_massive, of_tasks, outcomes
from quantcliff.stages.activations.ways import Way

__all__ = ["FOLDER", "LOOKUP", "TASKS", "Way", "all_ways", "damaged", "is_massive", "lookup", "make", "massive",
           "measure", "modes", "of_tasks", "outcomes", "scales", "some_ways", "study_of", "tasks", "value", "verdicts",
           "ways", "weights_of"]  # fmt: skip
