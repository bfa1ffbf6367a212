"""What does a diagnosis take? The figures that `quantcliff plan` is made from, measured on models of random weights.

    python benchmarks/costs.py            a row for each size: layers, width, prompts

Every row is a whole `quantcliff diagnose` in a process of its own, of a Llama with random weights (head scaled up, so
that it is sure of something) beside the same in 2 bits, asked for the next tokens of this repository's own text.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import pandas as pd
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantcliff.atlas import MODEL
from quantcliff.diagnosis import plan
from quantcliff.models import tokenizer_of
from quantcliff.quantizers import Scheme, export

ROOT = Path(__file__).parents[1]

SIZES = ((4, 128, 100), (8, 128, 100), (16, 128, 100), (8, 128, 400), (16, 128, 400), (4, 1024, 100), (8, 1024, 100))
"""Layers, width, prompts."""


def make(folder: Path, layers: int, width: int) -> Path:
    """A Llama of random weights with the embedded model's tokenizer."""
    torch.manual_seed(0)
    tokenizer = tokenizer_of(MODEL)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 32, num_key_value_heads=width // 32, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight *= 40
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def size_on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measured(layers: int, width: int, prompts: int, work: Path) -> dict[str, float]:
    """One diagnosis: seconds, passes, peak memory in bytes, bytes left on disk."""
    base, quantized, run = make(work / "base", layers, width), work / "quantized", work / "run"
    export(base, Scheme("rtn", 2, 32), (), quantized)
    text = work / "text.txt"
    text.write_text("\n\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "book").glob("*.md"))))
    line = [sys.executable, "-m", "quantcliff.cli", "diagnose", base, quantized, "--text", text, "--out", run]
    begun = time.monotonic()
    process = subprocess.Popen([*line, "--n-facts", str(prompts)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    found = re.search(r"as much as ([\d.]+) plain forward passes over the ([\d,]+) prompts", said)
    if not found:
        raise RuntimeError(f"status {status}: {said[-2000:]}")
    size = plan.Size.of(base)
    return {
        "layers": layers, "width": width, "prompts": int(found[2].replace(",", "")), "passes": float(found[1]),
        "seconds": time.monotonic() - begun, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024,
        "parameters": size.parameters, "disk": size_on_disk(run),
    }  # fmt: skip


@click.command()
@click.option("--only", type=int, multiple=True, help="Numbers of sizes, from 0.")
def main(only: tuple[int, ...]) -> None:
    """Measure every size and print the table."""
    rows = []
    for number, size in enumerate(SIZES):
        if not only or number in only:
            with TemporaryDirectory() as folder:
                rows.append(measured(*size, Path(folder)))
            click.echo(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1))


if __name__ == "__main__":
    main()
