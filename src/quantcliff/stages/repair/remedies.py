"""Can the damage be repaired? Four remedies, each beside a control, at every bit width.

Source protection, amplification (module `amplify`), low-rank compensation (`eora`) and domino (a relay), as in the
"repair" part of arXiv 2604.19884. A remedy costs bits: every row of the table says how many a weight takes on average,
scales, zero points and low-rank factors counted. `measure` runs all of them and writes RUN/repair.parquet.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pandas as pd
from torch import Tensor

from quantcliff.errors import InputError
from quantcliff.models import linears
from quantcliff.quantizers import longest_input, token_batches
from quantcliff.stages.repair import eora
from quantcliff.stages.repair.amplify import ALPHAS, check_rule
from quantcliff.stages.repair.bench import PROTECTED_LAYERS, Bench, layers_in_words
from quantcliff.stages.repair.trials import summarise
from quantcliff.study import Study


def measure(
    study: Study,
    *,
    layers: Sequence[int] = PROTECTED_LAYERS,
    share: float | None = None,
    eora_ranks: Sequence[int] = (2, 8),
    alphas: Sequence[float] = ALPHAS,
    rules: Sequence[str | int] = ("peak", "tuned"),
    n_prompts: int = 400,
) -> pd.DataFrame:
    """All repairs of all variants: rows of `summarise`, with variant, method, bits, group_size.

    At most `n_prompts` known facts are asked, half of them failures while there are that many; in shares over known or
    lost facts each counts for as many as it was drawn from.

    - none: the variant as it is.
    - protection: the first n of `layers` in 8 bits (control: the last n); the same quantized again by the variant's
      own method, so that GPTQ and AWQ calibrate the upper layers on protected input; modules of highest weight kurtosis
      within `share` of all weights, by default the share of one of the first of `layers` (control: random modules).
    - amplification: alone and after protection, with every one of `rules` (module `amplify`); alpha, one of `alphas`,
      is chosen on the validation half (control: lens logits from another fact's prompt, tuned on their own); reported
      on the test half. "amplification curve" rows show every alpha on the validation half, for the first rule.
    - compensation: EoRA of each of `eora_ranks` (control: plain SVD).
    - domino: first k layers quantized, the others in full precision; and its mirror, the last k.

    Raises:
        InputError: a number of layers, a rank or a rule that does not fit the model.
    """
    config = study.base.hf.config
    n_layers, smallest = config.num_hidden_layers, min(min(shape) for shape in linears(config).values())
    if bad := [n for n in layers if not 1 <= n <= n_layers]:
        raise InputError(f"{bad[0]} layers cannot be protected; the model has {n_layers}")
    if bad := [rank for rank in eora_ranks if not 1 <= rank <= smallest]:
        raise InputError(f"rank {bad[0]} does not fit the weights of this model; choose 1 to {smallest}")
    for rule in rules:
        check_rule(rule, n_layers)
    share = layers[0] / n_layers if share is None else share

    @cache
    def moments() -> dict[str, Tensor]:
        texts = token_batches(study.base.tokenizer, study.calibration_text, longest_input(config))
        return eora.second_moments(study.base.hf, texts)

    def compute(label: str) -> pd.DataFrame:
        bench = Bench(study, label, n_prompts)
        trials = [bench.none(), *bench.first_layers(layers), *bench.heavy_modules(share)]
        n, bits = max(layers), {trial.setting: trial.average_bits for trial in trials}
        kept = f"first {layers_in_words(n)}"
        trials += bench.amplification("alone", bench.streams, bits[""], alphas, rules)
        trials += bench.amplification("after protection", bench.protected[n], bits[kept], alphas, rules)
        trials += [*bench.compensation(eora_ranks, moments), *bench.domino()]
        return summarise(trials, bench.groups, bench.validation, study.seed)

    key: dict[str, Any] = {"layers": layers, "share": share, "ranks": eora_ranks, "alphas": alphas, "rules": rules}
    return study.table("repair", compute, n_prompts=n_prompts, **key)
