"""What would count as what, written down before any model of the book was run with quantized inputs or cache.

*Damaged* is a variant that loses at least `FEWEST_LOST` answers and keeps less than 99%. *Intact weights* means that
only inputs of linear layers, keys or values are quantized.

Massive activations (measured first, in full precision):

- *A model has massive activations* if in the middle third of the layers the largest channel holds at least half of
  ||h||^2 at the first token, and at most a tenth of that elsewhere on average (`MASSIVE`). It *has sinks* if the first
  token gets at least 30% of the attention there, over heads and later tokens (`SINK`). Expected: SmolLM2 both, the
  embedded model neither. Of a model without massive activations no claim about 4-bit inputs is made beyond itself.

  Replaced when both models had been looked at: "at most a tenth elsewhere" tells a first token that is large from one
  that is like the others only if these have no large channel of their own, and SmolLM2's have one with a third of their
  norm. In its place: the first token's norm is at least ten times that of the others (`NORM`). Both are shown.

The mode:

- *Intact weights respond*: every damaged variant of intact weights answers "responds" with yes, whatever its bits.
  Refuted by one of which the whole interval lies below one half.
- *So no collapse*: none of them is a computation collapse by the rule of the verdict.
- *Keys break where, values break what*: of the damage done to attention, the part that is in its pattern,
  JSD / (JSD + 1 - cosine of the output), is larger with keys quantized than with values, at the same bits and per
  token alike, at every width of 4, 3 and 2 bits. In place; on clean input it is true by construction (a value changes
  no pattern of its own layer) and therefore no evidence.
- *A third kind, lookup failure*, is named only if a damaged variant of quantized keys and values, on the facts it lost,
  (a) answers "responds" with yes, (b) gets half of them back when the keys of one single layer are left alone, and (c)
  does not when the values of that layer are, all keys staying quantized. Expected: (b) fails, and none is named.

Scales and repair:

- *Static is worse*: with one scale per tensor 8-bit inputs keep fewer answers than with one per token, beyond both
  intervals, on the model with massive activations; and on the other not.
- *The first token is why*: leaving it out of the quantization brings back at least half of what static scales lose
  (scales measured without it), and less than half of what per-token scales lose at 4 bits, since there each token has
  its own scale already.
- *Rotation helps 4-bit inputs*: a Hadamard rotation of each input keeps more answers at 4 bits per token, beyond both
  intervals.
- *Keys want their own scale by channel* (KIVI, arXiv 2402.02750): at 2 bits keys by channel keep more than keys by
  token, beyond both intervals, on both models.
- *The cache can be repaired at any width*: of damaged cache variants, source protection (first two layers in full
  precision) brings back 34% of the lost answers, the limit of the question "repair".

Blame (`verdict.blame`): a part (weights, inputs, cache) is to blame if at least half of the lost answers return when it
alone is switched off. If that holds of none, those parts are to blame that by themselves lose at least half of these
answers. If that holds of none either, it is their sum.

More than recall:

- *Recall falls first*: with plain rounding of weights, at 3 bits, recall keeps a smaller share than each of the tasks
  that need computation, beyond both intervals. A task counts only if full precision scores above its floor, beyond the
  interval.
- *Collapse loses the induction heads*: heads that put more than 30% of their attention on what followed the same token
  before (`HEADS`, full precision, random strings twice over) keep less than half of it on average at 2 bits, and more
  than half of it at 4 bits.

Added before SmolLM2's remaining ways were run (W8A8, W4A8, W4A4, the cache at 4 bits, its weights alone asked the same
facts) and before any circuit was looked at with quantized inputs or cache. Of the embedded model the ways of the first
two rules had been seen.

- *Together, the worse part decides*: where weights and inputs are both quantized, the mode is that of whichever of the
  two keeps fewer answers by itself. Expected on SmolLM2: W8A8 and W4A8 degradation, W4A4 collapse, as its inputs alone.
- *Losses multiply*: what both keep together is the product of what each keeps, within its interval. Where a part keeps
  nothing this says nothing.
- *Keys cost more than values at every width*: at 4, 3 and 2 bits by token keys keep fewer answers. Holds if so at all
  widths; refuted by one at which they keep more, beyond both intervals.
- *The circuit goes where answers go*: of the ways of `edition.CIRCUIT`, those that keep less than a tenth of the
  answers leave the induction heads less than half of their attention, whatever the mode, and the others more than half.
  If it holds, losing the circuit is not a mark of collapse: 2-bit keys lose it and are a degradation.
"""

FEWEST_LOST = 10
"""As `verdict.Pair`."""

MASSIVE = 0.5
SINK = 0.3
NORM = 10.0
HEADS = 0.3

RETURNS = 0.5
"""Share of the lost answers that must return."""
