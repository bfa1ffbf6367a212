"""In: the parameters of a question. Out: its prompts, its models (full precision and variants), its kept tables."""

from quantcliff.study.asking import Study
from quantcliff.study.presets import Preset, preset_of
from quantcliff.study.variants import FULL, REFERENCE_BITS, Variant

__all__ = ["FULL", "REFERENCE_BITS", "Preset", "Study", "Variant", "preset_of"]
