"""Claims a chapter makes, checked where they are made.

On the embedded model with default parameters (`strict`) a claim that fails stops the build. On any other model the
page says which claims hold there and which do not.
"""

from dataclasses import dataclass

import numpy as np
from IPython.display import Markdown

from quantcliff.book.text import tidy


class ClaimError(AssertionError):
    """The book says something that its own numbers do not bear out."""


@dataclass(frozen=True)
class Claim:
    name: str
    sentence: str
    held: bool
    applies: bool = True


class Claims:
    """The claims of one page.

    Args:
        strict: raise on a claim that fails; chapters pass `study.is_default`.

    Example:
        >>> claims = Claims(strict=False)
        >>> claims.check("eight_bits_keep", "At 8 bits nearly every answer survives.", 0.998 >= 0.995)
        True
        >>> print(claims.report().data.splitlines()[0])
        Claims of this page that hold here: 1 of 1.
    """

    def __init__(self, strict: bool):
        self.strict = strict
        self.claims: list[Claim] = []

    def check(self, name: str, sentence: str, held: bool | np.bool, applies: bool | np.bool = True) -> bool:
        """Record a claim, its name unique on the page, and return whether it holds.

        Args:
            applies: False where there is nothing of what the claim is about, such as lost answers where none was lost;
                it then neither holds nor fails.

        Raises:
            ClaimError: the claim does not hold and the page is strict; the message holds name and sentence.
            ValueError: the page already has a claim of that name.
        """
        if any(claim.name == name for claim in self.claims):
            raise ValueError(f"claim {name!r} is checked twice")
        held = bool(held)
        self.claims.append(Claim(name, sentence, held, bool(applies)))
        if self.strict and applies and not held:
            raise ClaimError(f"the claim {name!r} does not hold on the embedded model: {sentence}")
        return held

    def report(self) -> Markdown:
        """One sentence and a table of all claims so far; a cell that ends in it shows both."""
        if not self.claims:
            return Markdown("This page makes no checked claim.")
        asked = [claim for claim in self.claims if claim.applies]
        sentence = f"Claims of this page that hold here: {sum(claim.held for claim in asked)} of {len(asked)}."
        if idle := len(self.claims) - len(asked):
            sentence += f" {idle} more {'is' if idle == 1 else 'are'} about something that there is none of here."
        words = {True: "holds", False: "**does not hold**"}
        rows = [
            f"| {_cell(claim.sentence)} | {words[claim.held] if claim.applies else 'nothing to say it of'} |"
            for claim in self.claims
        ]
        return Markdown("\n".join([sentence, "", "| Claim | Here |", "|---|---|", *rows]))


def _cell(text: str) -> str:
    return " ".join(tidy(text).split()).replace("|", "\\|")
