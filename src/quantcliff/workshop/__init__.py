"""Commands that make again what ships with the package: the embedded model, and what SmolLM2 is asked."""

from quantcliff.workshop.atlas import atlas
from quantcliff.workshop.smollm2 import smollm2_group

__all__ = ["atlas", "smollm2_group"]
