"""In: a base and a quantized model. Out: what of the second is stored wrongly, what only looks odd, what is clean."""

from quantcliff.filecheck.check import Findings, check
from quantcliff.filecheck.groups import KINDS
from quantcliff.filecheck.harm import PROMPTS
from quantcliff.filecheck.modules import faulty, harmless, inspect

__all__ = ["KINDS", "PROMPTS", "Findings", "check", "faulty", "harmless", "inspect"]
