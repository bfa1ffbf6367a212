"""Stage 4, second part: what it costs to quantize one module type, or one layer, and nothing else.

Source: arXiv 2604.19884, component sensitivity (Llama and Mistral suffer in early layers, `down_proj` and `v_proj`).
"""

import pandas as pd
import torch
from tqdm import tqdm

from quantcliff import stats
from quantcliff.models import LAYER, Model, layer_of, linears, splice, stacks
from quantcliff.probes import Probes
from quantcliff.quantizers import unsmoothed
from quantcliff.study import Study
from quantcliff.tracing import Runner, score


def parts_of(base: Model, quantized: Model) -> dict[tuple[str, str], list[str]]:
    """Parameter names of every part to quantize alone: ("all", "all"), ("module", "v_proj") or ("layer", "3").

    A layer takes all its parameters, a module of experts those of all of them: ("module", "experts.down_proj"). Where
    the two models differ in more than such weights (norms or biases trained or rescaled), a module cannot be exchanged
    alone, and only layers are given.
    """
    own, other = dict(base.hf.named_parameters()), dict(quantized.hf.named_parameters())
    weights = _matrices(base)
    in_layers = [name for name in own if LAYER.search(name)]
    parts: dict[tuple[str, str], list[str]] = {("all", "all"): list(own)}
    if all(torch.equal(own[name], other[name]) for name in in_layers if name not in weights):
        for name, (kind, _) in weights.items():
            parts.setdefault(("module", kind), []).append(name)
    for name in in_layers:
        parts.setdefault(("layer", str(layer_of(name))), []).append(name)
    return parts


def _matrices(model: Model) -> dict[str, tuple[str, int]]:
    """Type of module and number of weights of every parameter that quantizers round, by name."""
    shapes = linears(model.hf.config).items()
    found = {f"{name}.weight": (name.split(".")[-1], rows * columns) for name, (rows, columns) in shapes}
    experts = stacks(model.hf).items()
    return found | {name: (".".join(name.split(".")[-2:]), parameter.numel()) for name, parameter in experts}


def cost(base: Model, quantized: Model, probes: Probes, seed: int = 0) -> pd.DataFrame:
    """What each part costs while all else stays in full precision, one row per part of `parts_of`.

    GPTQ works from the first layer up, so the weights of a later layer were fitted to quantized input, not to the clean
    one they get here.

    Returns:
        Columns part, name, share (of all quantized weights), n (prompts), and with 95% bounds (`_low`, `_high`): kept
        (share of right answers, Wilson), loss (fall of the answer's probability, paired bootstrap), loss_per_share
        (loss / share: what the loss would be if every quantized weight cost as much as these).
    """
    before = score(Runner(splice(base, base, lambda name: False)), probes)["probability"]
    sizes = {name: size for name, (_, size) in _matrices(base).items()}
    rows = []
    parts = parts_of(base, quantized)
    for (part, name), names in tqdm(parts.items(), desc=f"parts of {quantized.name}", leave=False, disable=None):
        after = score(Runner(splice(base, quantized, set(names).__contains__)), probes)
        share = sum(sizes.get(parameter, 0) for parameter in names) / sum(sizes.values())
        kept, loss = stats.share(after["rank"] == 1), stats.paired_difference(before, after["probability"], seed)
        row = {"part": part, "name": name, "share": share, "n": len(probes)}
        row |= {"kept": kept.estimate, "kept_low": kept.low, "kept_high": kept.high}
        for column, scale in (("loss", 1.0), ("loss_per_share", share)):
            row |= {
                column: loss.estimate / scale,
                f"{column}_low": loss.low / scale,
                f"{column}_high": loss.high / scale,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def measure(study: Study, n_prompts: int = 200) -> pd.DataFrame:
    """`cost` of every variant's parts on `n_prompts` facts of `study.inside` -> components_sensitivity.parquet."""
    probes = study.sample(n_prompts)
    return study.table(
        "components_sensitivity",
        lambda label: cost(study.base, unsmoothed(study.base, study.model(label)), probes, study.seed),
        n_prompts=n_prompts,
    )
