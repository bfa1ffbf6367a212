"""In: models, methods, bits, seeds. Out: a Snakemake workflow of diagnoses, and one page that compares them."""

from quantcliff.grid.cells import Cell, Grid
from quantcliff.grid.compare import compare, page
from quantcliff.grid.workflow import start, write

__all__ = ["Cell", "Grid", "compare", "page", "start", "write"]
