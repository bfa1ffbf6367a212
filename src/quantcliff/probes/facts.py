"""Facts as questions: text first (`load`), then tokens for one model (`probe`)."""

from quantcliff.probes.asked import Probes, counts, probe, whole_objects
from quantcliff.probes.texts import DROPPED, Facts, embedded, load, no_drops, paraphrases

__all__ = ["DROPPED", "Facts", "Probes", "counts", "embedded", "load", "no_drops", "paraphrases", "probe",
           "whole_objects"]  # fmt: skip
