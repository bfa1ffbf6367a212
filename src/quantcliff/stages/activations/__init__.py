"""Activations: inputs of linear layers, keys and values quantized while a model runs, and tasks beside recall.

In: a study. Out: activations.parquet.
"""

from quantcliff.stages.activations import lookup, massive, tasks, verdicts, ways
from quantcliff.stages.activations.edition import (
    CIRCUIT,
    FOLDER,
    LOOKUP,
    SIZES,
    TASKS,
    all_ways,
    few_ways,
    make,
    scales,
    some_ways,
    study_of,
    weights_of,
)
from quantcliff.stages.activations.measures import measure, modes, value
from quantcliff.stages.activations.outcomes import damaged, is_massive, of_circuit, of_tasks, outcomes
from quantcliff.stages.activations.ways import Way

__all__ = ["CIRCUIT", "FOLDER", "LOOKUP", "SIZES", "TASKS", "Way", "all_ways", "damaged", "few_ways", "is_massive",
           "lookup", "make", "massive", "measure", "modes", "of_circuit", "of_tasks", "outcomes", "scales", "some_ways",
           "study_of", "tasks", "value", "verdicts", "ways", "weights_of"]  # fmt: skip
