"""Other ways to spend the text that healing is given, on the embedded model at 2 bits in groups of 128.

- `autoround`: AutoRound trains which way each weight is rounded, and no weight (200 steps on each layer, its default).
- `autoround, calibration text`: the same on the 5,000 tokens that GPTQ is given, about all facts. Added after
  `autoround` was seen to keep fewer than the trial below had: was it the text, or the steps? No rule speaks of it.
- `end to end`: after layers were healed one by one, their scales on next tokens, codes as they are (E2E-QP of
  EfficientQAT); and the same from GPTQ's checkpoint alone.
- `longer in full precision`: the text is read as often, but by the model before it is quantized, which is then plainly
  rounded: what the text alone can do.

Written down before any of it was run, but for one trial of AutoRound (50 steps, calibration text: 27% of 965 facts; cut
into sequences as it now is, 50 steps on that text keep 14% of 3,856: what made the difference was not found).
"More" means: the estimate lies above the other's 95% interval, and the other's below its own. On held-out facts:

- *AutoRound heals a part*: it keeps more than GPTQ, and healing keeps more than it.
- *End to end adds*: healing and then end to end keeps more than healing.
- *End to end alone does not*: it keeps less than half of what healing keeps.
- *It is not the text*: read in full precision and then rounded, less than a tenth of what rounding and healing keeps.

The rate of `end to end` is the one of `RATES` with the least loss on held-out sequences of the text, not on facts.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm import tqdm

from quantcliff import disk, models
from quantcliff.quantizers import TRAINED, Scheme, quantize
from quantcliff.quantizers.calibration import equal_rows
from quantcliff.quantizers.healing import WHOLE_REPORT, EndToEnd, end_to_end, rows_of
from quantcliff.stages.healing.edition import EQUAL, SHOWN, row
from quantcliff.stages.healing.text import TOKENS, documents
from quantcliff.stages.healing.trials import COLUMNS, checkpoint, measured_on, read_by
from quantcliff.study import Study

RATES = (1e-3, 3e-3, 1e-2)
"""Of `end to end`, as shares of a scale: the paper's, and two larger ones, since small models want those."""

EPOCHS = 4
"""Passes over the text, as of healing."""

LONGER_RATE = 3e-4
"""Learning rate of the training in full precision (AdamW, cosine to a twentieth)."""

LITTLE = "autoround, calibration text"
HEALED, ALONE, LONGER = "healed, then end to end", "end to end alone", "longer in full precision"
WAYS = {TRAINED: TRAINED, HEALED: "gptq", ALONE: "gptq", LONGER: "rtn"}
"""The ways that rules speak of -> their method."""

RULES = {
    "AutoRound heals a part": "AutoRound keeps more than GPTQ and less than healing, beyond the intervals.",
    "end to end adds to healing": "Healing, then scales end to end, keeps more than healing, beyond the intervals.",
    "end to end alone does not heal": "Scales end to end alone keep less than half of what healing does.",
    "it is not the text": "The text read in full precision, then rounding: less than a tenth of rounding, healed.",
}


def make(run: Path, device: str = "auto") -> pd.DataFrame:
    """Every way, in RUN; rows as of `trials.measure`, and `rate` where one was chosen. A killed run goes on."""
    gptq = Study("atlas", method="gptq", bits="2", run=run, device=device)
    plain = Study("atlas", method="rtn", bits="2", run=run, device=device)
    text, size = documents(EQUAL), gptq.parameters.group_size
    healed = checkpoint(gptq, next(iter(gptq.variants)), SHOWN)
    start = {HEALED: healed, ALONE: next(iter(gptq.variants.values())).path}
    auto = quantize("atlas", Scheme(TRAINED, 2, size), enough(gptq, text), run / "quantized")
    n = len(equal_rows(gptq.base.tokenizer, gptq.calibration_text))
    little = quantize("atlas", Scheme(TRAINED, 2, size), gptq.calibration_text, run / "quantized")
    found = [_rows(gptq, TRAINED, TRAINED, auto), _rows(gptq, TRAINED, LITTLE, little, n)]
    for name, folder in start.items():
        rate, trained = best_rate(folder, text, run / "further" / name.replace(" ", "-").replace(",", ""), gptq)
        found.append(_rows(gptq, "gptq", name, trained).assign(rate=rate))
    longer = in_full_precision(plain, text, run / "further" / "longer")
    rounded = quantize(longer, Scheme("rtn", 2, size), (), run / "quantized")
    found.append(_rows(plain, "rtn", LONGER, rounded))
    return pd.concat(found, ignore_index=True)


def _rows(study: Study, method: str, arm: str, folder: Path, sequences: int = EQUAL) -> pd.DataFrame:
    about = (arm, sequences, sequences * TOKENS, 0 if method == TRAINED else EPOCHS)
    rows = [(*about, *one) for one in measured_on(study, folder, *read_by(study))]
    size = study.parameters.group_size
    return pd.DataFrame(rows, columns=COLUMNS).assign(
        variant=f"{method}-2bit-g{size}", method=method, bits=2, group_size=size
    )


def enough(study: Study, text: Sequence[str]) -> list[str]:
    """The first documents that give `EQUAL` sequences."""
    found, left = [], EQUAL * TOKENS
    for document in text:
        if left <= 0:
            break
        found.append(document)
        left -= len(study.base.tokenizer(document).input_ids)
    return found


def best_rate(folder: Path, text: Sequence[str], out: Path, study: Study) -> tuple[float, Path]:
    """The rate of `RATES` with the least loss on held-out text, and its checkpoint."""
    losses = {}
    for rate in RATES:
        here = out / f"{rate:g}"
        if not here.exists():
            recipe = EndToEnd(epochs=EPOCHS, lr=rate)
            end_to_end(folder, text, here, recipe, tokens=TOKENS, sequences=EQUAL, device=study.parameters.device)
        course = json.loads((here / WHOLE_REPORT).read_text(encoding="utf-8"))["course"]
        losses[rate] = min(row["loss"] for row in course)
    best = min(losses, key=losses.__getitem__)
    return best, out / f"{best:g}"


def in_full_precision(study: Study, text: Sequence[str], out: Path) -> Path:
    """The study's model after it has read the text `EPOCHS` times more, in the new folder `out`."""
    if out.exists():
        return out
    model = models.load(study.parameters.model, device=study.parameters.device)
    ids = rows_of(model.tokenizer, text, TOKENS, EQUAL).to(model.hf.device)
    hf, order = model.hf.train().requires_grad_(True), torch.Generator().manual_seed(study.seed)
    batches = [rows for _ in range(EPOCHS) for rows in torch.randperm(len(ids), generator=order).split(32)]
    optimizer = torch.optim.AdamW(hf.parameters(), lr=LONGER_RATE, weight_decay=0.0)
    for number, rows in enumerate(tqdm(batches, desc=LONGER, disable=None)):
        optimizer.param_groups[0]["lr"] = LONGER_RATE * (0.05 + 0.475 * (1 + math.cos(math.pi * number / len(batches))))
        _step(hf, ids[rows], optimizer)
    with disk.whole(out) as part:
        hf.eval().save_pretrained(part)
        model.tokenizer.save_pretrained(part)
    return out


def _step(hf: torch.nn.Module, ids: Int[Tensor, "sequence token"], optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    hf(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    optimizer.step()


def rules(table: pd.DataFrame, shipped: pd.DataFrame) -> dict[str, bool]:
    """Which of the rules above hold: name (of `RULES`) -> whether it does.

    Args:
        table: of `make`.
        shipped: the edition's table `healing`.
    """
    gptq, healed = (row(shipped, arm, n) for arm, n in (("as it is", 0), ("healed", EQUAL)))
    rounded = row(shipped, "healed", EQUAL, method="rtn")
    auto, both, alone, longer = (row(table, arm, EQUAL, method=method) for arm, method in WAYS.items())
    held = (
        more(auto, gptq) and more(healed, auto), more(both, healed), alone["estimate"] < healed["estimate"] / 2,
        longer["estimate"] < rounded["estimate"] / 10,
    )  # fmt: skip
    return {name: bool(one) for name, one in zip(RULES, held, strict=True)}


def more(one: pd.Series | Mapping[str, float], other: pd.Series | Mapping[str, float]) -> bool:
    """Whether the estimate of one lies above the other's interval, and the other's below its own."""
    return bool(one["estimate"] > other["high"] and other["estimate"] < one["low"])
