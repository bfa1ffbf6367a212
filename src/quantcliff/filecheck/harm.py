"""Do weights that look odd do harm? A module is run on real inputs, and the error of its output decides.

GPTQ may move a group of weights far from the base's, on purpose: where one input channel is a thousand times larger
than the others, the rounding error of its weight is made up for by weights of other channels, which then have nothing
to do with the base's. By its weights alone such a group cannot be told from a stored fault. By what it does it can:
what was moved on purpose lowers the error of the output, and a fault raises it.

**The rule.** An output of a linear layer is one row of its weights times the input, x; its error is e = (q - w) x, with
q the stored row and w the base's. For every row with groups that look odd (`weights`), e^2 is summed over the tokens of
the study's prompts, three ways: as *stored*; *mended*, with the odd groups as plain rounding would have them and the
rest as stored; and *own*, what rounding these groups costs by itself, everything else exact. The row is harmed by its
odd groups if both hold:

1. *They raise the error*: stored - mended > `HARM` * own, on the inputs that full precision gives the module, every
   token scaled to the same size. A fault adds several times what rounding costs: a zero point off by one 12 times,
   weights of another group 10 times at 2 bits and 250 at 4, scales four times too large 45 times at 2 bits and more
   above, scales four times too small 1.7 times at 2 bits and 67 at 4. Groups moved on purpose are part of a whole:
   plain rounding in their place breaks that up, so mended is the larger one. Between 0 and 1.7 a half is *chosen*.
2. *They are not there on purpose*. They are, if stored < mended with tokens as large as they are, on full precision's
   inputs or on those that the quantized model itself gives the module. That is the sum that GPTQ makes small: in a
   module with a massive activation one token outweighs all others, and GPTQ gives up the others for it. Where the rest
   of the module is plain rounding (a share of `PLAIN` of its weights on the very levels that rounding gives them),
   nothing was moved on purpose, and nothing is excused.

The rule was written before it was run, and changed once. It first excused only groups that *halve* the row's error, in
any module. Of 210 modules of SmolLM2 with GPTQ at 2 bits that accused 3, each for a few groups that lower GPTQ's own
sum by hundreds of times their own cost, but by less than half. So now lowering it is enough, and modules of plain
rounding, where luck alone could lower it, are not excused.

All odd groups of a row share its fate, and where most of a module's odd rows are harmed, so are all: a fault that luck
makes harmless in one row is still one. Weights that are *found* in another place, beyond chance, are a fault whatever
they do if that place does not hold its own weights either: no quantizer exchanges them. (A second change: at first the
place did not matter, and of 420 modules with GPTQ at 2 bits one was accused for a group that looks like another one by
chance.) What is odd and does no harm is reported as such.

A third change came of healthy files that the rule had not been made on: of 210 modules of SmolLM2 with GPTQ at 2 bits
and a damping of .1 it accused two, for groups that lower GPTQ's own sum. The rest of these modules passed for plain
rounding, which was then said of an excess within .05 of 1: with strong damping GPTQ moves weights that little. Levels
tell them apart at any damping.

A fourth came of the same files: GPTQ at 2 bits without zero points was accused of single groups in four modules. They
do raise the error of their rows, by one to three ten-thousandths of the module's, no more than GPTQ's own luck.
So what was not rounded plainly is only accused of what is felt, `FELT`. One broken group among thousands cannot be told
there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantcliff.filecheck.inputs import on_inputs
from quantcliff.filecheck.rounding import nearest

HARM = 0.5
"""Added error above which odd groups do harm, in units of what rounding them costs."""

FELT = 0.001
"""Share of a module's squared error that harmed rows must add together, where the module was not rounded plainly."""

PLAIN = 0.99
"""Share of the weights of groups that do not look odd that lie on plain rounding's levels where a module was rounded
plainly. The rest is for scales that are stored in half precision."""

PROMPTS = 64
"""Prompts a module is run on."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A linear layer to be run: the base's weights, the stored ones, and on what grid these lie.

    `odd`: numbers of groups of `size` weights, counted along rows, that look odd. `plain`: the rest is plain rounding.
    `displaced`: whether each of these was found in another place, which is odd as well. `order`: the columns of the
    weights here are these of the layer; None where they stand in the layer's own order. `kind` of levels: as `nearest`.
    """

    exact: Float[Tensor, "out in"]
    stored: Float[Tensor, "out in"]
    bits: int
    size: int
    symmetric: bool
    odd: Int[np.ndarray, " odd"]
    displaced: Bool[np.ndarray, " odd"]
    plain: bool
    order: Int[Tensor, " in"] | None = None
    kind: str = "int"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a module's weights do.

    Attributes:
        ratio: error of the module's output over that of plain rounding, on full precision's inputs, tokens alike.
        ratio_own: the same on the quantized model's own inputs, tokens as large as they are: what GPTQ lowers.
        harmful: for each of the trial's odd groups, whether it is a fault.
    """

    ratio: float
    ratio_own: float
    harmful: Bool[np.ndarray, " odd"]


@torch.no_grad()
def try_out(
    exact: PreTrainedModel, stored: PreTrainedModel, trials: Mapping[str, Trial], prompts: Sequence[Sequence[int]]
) -> dict[str, Outcome]:
    """The rule of this module for every trial, by full module name.

    Args:
        exact: the base in the quantized model's units (`smoothing.unsmoothed`); `stored`: the quantized model. Neither
            may be wrapped by a runner.
        prompts: token ids.
    """
    measures = {name: partial(_measure, trial) for name, trial in trials.items()}
    here, there = (on_inputs(hf, measures, prompts) for hf in (exact, stored))
    return {name: _judge(trial, here[name], there[name]) for name, trial in trials.items()}


@dataclass(frozen=True, eq=False)
class _Errors:
    """Squared errors of one module on one set of inputs; the second axis: tokens alike, tokens as they are.

    `module` has (stored, rounded); `rows` has (stored, mended, own) of the rows with odd groups.
    """

    module: Float[np.ndarray, "2 2"]
    rows: Float[np.ndarray, "3 2 row"]


def _measure(trial: Trial, _: nn.Module, inputs: Tensor) -> _Errors:
    return _errors(trial, inputs)


def _rows(trial: Trial) -> Int[np.ndarray, " row"]:
    return np.unique(trial.odd // (trial.exact.shape[1] // trial.size))


def _errors(trial: Trial, inputs: Float[Tensor, "token in"]) -> _Errors:
    inputs = inputs if trial.order is None else inputs[:, trial.order.to(inputs.device)]
    size = inputs.norm(dim=1, keepdim=True)
    weight = torch.stack([1 / size.clamp(min=1e-30).square(), torch.ones_like(size)])[:, :, 0]

    def squared(difference: Tensor) -> Tensor:
        """Of each row, summed over tokens, both ways: (2, row)."""
        return weight @ (inputs @ difference.T.to(inputs.dtype)).square()

    rounded = nearest(trial.exact.reshape(-1, trial.size), trial.bits, trial.symmetric, trial.kind)[0].reshape(
        trial.exact.shape
    )
    off, rounding = trial.stored - trial.exact, rounded - trial.exact
    module = torch.stack([squared(off).sum(1), squared(rounding).sum(1)])
    rows = torch.tensor(_rows(trial))
    flags = torch.zeros(trial.exact.numel() // trial.size, dtype=torch.bool)
    flags[torch.tensor(trial.odd)] = True
    odd = flags.reshape(len(trial.exact), -1).repeat_interleave(trial.size, 1)[rows].to(off.device)
    off, rounding = off[rows], rounding[rows]
    mended, own = torch.where(odd, rounding, off), torch.where(odd, rounding, torch.zeros_like(off))
    each = torch.stack([squared(off), squared(mended), squared(own)])
    return _Errors(module.double().cpu().numpy(), each.double().cpu().numpy())


def _judge(trial: Trial, here: _Errors, there: _Errors) -> Outcome:
    (stored, mended, own), either = here.rows[:, 0], (here.rows[:, 1], there.rows[:, 1])
    raised = stored - mended > HARM * own
    excused = np.any([rows[0] < rows[1] for rows in either], axis=0) & (not trial.plain)
    harmed, rows = raised & ~excused, _rows(trial)
    if not trial.plain and (stored - mended)[harmed].sum() < FELT * here.module[0, 0]:
        harmed[:] = False
    if harmed.sum() > len(rows) / 2:
        harmed[:] = True
    per_row = trial.exact.shape[1] // trial.size
    ratio, ratio_own = (
        float(np.sqrt(pair[0] / max(pair[1], 1e-30))) for pair in (here.module[:, 0], there.module[:, 1])
    )
    return Outcome(ratio, ratio_own, trial.displaced | np.isin(trial.odd // per_row, rows[harmed]))
