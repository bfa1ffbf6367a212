"""What would count as what, written down before anything of this stage was run on the models of the book.

The paper (arXiv 2605.08894) publishes no formula and no code. Its claims are known from its abstract; every measure
here is *chosen* (`measures`). Whether "less smooth" is a larger or a smaller gradient the abstract does not say, so
no direction is built in. Each claim *holds*, *holds not*, or *cannot be told here*; on the embedded model, where
nothing else is said, in all of GPTQ, AWQ and plain rounding in groups of 128.

Plain: of the model as it is. Matched: of its temperature-matched twin, logits multiplied by the one number that gives
its predictions on running text full precision's mean entropy. What is lost in the plain model and not in the twin is
calibration, not structure.

1. *Smoothness falls with the bits*, if from 8 to 4, 3 and 2 bits both the finite-difference slope (at a tenth of the
   mean embedding norm, twin) moves away from full precision's, |log ratio|, in every step, and the direction of input
   gradients (twin, first tokens left out) falls in every step. Expected to hold. That the slope *grows* (the model
   gets rougher) and that it *shrinks* are told apart; a collapsed model with constant output is expected to look
   smooth.
2. *Input gradients stand for smoothness*, if over the cells of the boundary's grid the norm ratio of input gradients
   and the ratio of finite slopes have the same order, Spearman correlation at least .8, bounds beyond .6. (The finite
   slope is the referee: it needs no gradient and no right answer.)
3. *It is more than error*, falsifier (a): over those cells of the boundary's grid that have the least damping and,
   where it is AWQ, the usual text (64 of 144, for the time they take), and the 24 between 2.5 and 3 bits, given the
   divergence from full precision on running text (`text_kl`), the partial rank correlation with answers kept of at
   least one of `NAMED` is not 0 beyond a 99% interval (five numbers are tried), bootstrap over blocks of cells of the
   same bits and group size, *and* it is so still when the two other plain errors of the same cost (`stream_snr`,
   `text_agree`) are given as well. If the first alone is true, then smoothness says no more than a second measure of
   error would: *holds not*. Beside it, for comparison, what the two plain errors say given the divergence. Cells are
   many quantizations of one model; the interval is about these cells and not about models. With one model this cannot
   be more than a sign.
4. *Candidates get fewer*: the union of effective candidates in the neighbourhood of nearest tokens is smaller than
   full precision's beyond the interval, at 3 and at 2 bits. Said of the plain model and of the twin. Falsifier (c):
   the structural claim *holds not* if in the twin the union is not smaller at 2 bits. Expected: in collapse entropy
   rises, so that plain unions grow; the claim then holds not in its plain form.
   *Candidates are lost*, if in the twin the share of full precision's candidates that survive is below full
   precision's own 100% beyond the interval, above chance (another sequence's candidates), and falls in every step
   from 4 to 2 bits. A flat distribution keeps every candidate, so the share of the model's own candidates that are
   full precision's stands beside it.
5. *The decoding tree gets sparser*: nodes at the last depth are fewer than full precision's beyond the interval, at 3
   and at 2 bits; plain and twin. *Distinct continuations get fewer*: the same.
6. *It is the neighbourhood*: with random tokens put in, the same measures move as with nearest ones. Loss is about
   neighbourhoods, if survival with nearest tokens is lower than with random ones beyond the interval at 3 bits.
7. *A smoothness term helps quantization after training*, falsifier (b): embedded model, 2 bits, healed on `SEQUENCES`
   sequences. The weight of the term is chosen on validation text: of `WEIGHTS` the one of the smallest loss there,
   among those whose reconstruction error (held-out sequences, mean over layers) is at most `EQUAL` above that of
   weight 0; the smallest weight if none is. Helps, if on facts never seen it keeps more answers than weight 0 *and*
   than the same weight on a random vector, both beyond the paired interval over facts (answers averaged over `SEEDS`
   seeds), for GPTQ and for plain rounding. Helps one only: said so, and *cannot be told*. Manipulation check: the
   term's own error must be lower than without it, or the arm says nothing.
8. *Helps training with quantization*: not tried. Cannot be told here.
9. *The loss is seen in a real model*: 1, 4 and 5 on SmolLM2, GPTQ and plain rounding at 4, 3 and 2 bits in groups of
   64.
"""

NAMED = ("norm_ratio", "direction", "slope_ratio", "survival", "tree_ratio")
"""Smoothness of a cell in five numbers, all of the twin: norm ratio and direction of input gradients (first tokens left
out), ratio of finite slopes at `RADIUS`, surviving candidates (nearest tokens), ratio of the tree's nodes at the last
depth."""

ERRORS = ("stream_snr", "text_agree")
"""Plain errors beside the divergence."""

RADIUS = 0.1
"""Of the finite slope that is compared, in mean embedding norms."""

SEQUENCES, WEIGHTS, SEEDS, EQUAL = 128, (0.01, 0.1, 1.0), 3, 0.02
