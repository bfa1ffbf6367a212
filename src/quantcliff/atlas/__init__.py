"""The embedded model "atlas": real facts, text made of them, and a small Llama that learned them."""

from pathlib import Path

FOLDER = Path(__file__).parent
MODEL = FOLDER / "model"
"""Folder of the shipped checkpoint: plain `AutoModelForCausalLM.from_pretrained` loads it."""
