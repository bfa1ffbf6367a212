"""Activations: inputs of linear layers, keys and values quantized while a model runs, and tasks beside recall.

In: a study. Out: activations.parquet.
"""

from quantcliff.stages.activations import lookup, massive, tasks, ways
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
from quantcliff.stages.activations.ways import Way

__all__ = ["FOLDER", "LOOKUP", "TASKS", "Way", "all_ways", "lookup", "make", "massive", "measure", "modes", "scales",
           "some_ways", "study_of", "tasks", "value", "ways", "weights_of"]  # fmt: skip
