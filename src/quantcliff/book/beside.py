"""The paper's figures beside ours: does what was measured here agree with what was published?

The rule, written down before any row was judged. What the paper says of a figure is one of these:

- *about v*: a number. The paper gives no interval and mostly one digit, so everything within `NEAR` of it is the same.
- *between v and w*: numbers of several models; the same from `NEAR` below the least to `NEAR` above the greatest.
- *above v*, *below v*: a bound, met on its side.
- *mode*: words. They are held to what the verdict's signal of that name reads (its marks: `stages.verdict.signals`,
  fixed before any model was measured): "there" is anything but collapsed, "gone" is collapsed.

Ours is a value with a 95% interval. It *agrees* if the whole interval meets what the paper says, it *differs* if no
part of it does, and else it *cannot be told*; nor can it where there is no value. An interval that is wider than what
the paper says lies on both sides of it and cannot be told either.
"""

AGREES, DIFFERS, UNKNOWN = "agrees", "differs", "cannot be told"

NEAR = 0.1
"""How far from a published number a value may lie and be the same."""
