"""The questions of cause that a verdict answers, what each is held to, and what follows from the answers.

Every question has a number with a 95% interval and a control. Two of them decide, the others say where the damage sits
and what helps. All limits lie half-way between nothing and everything, or say where they come from; all were *chosen*
and written down before the rule was run on any model. None depends on how many layers there are.

- *forms* (decides): does the answer still form? For two lost facts of one relation with different answers: does each
  prompt lean towards its own answer more than the other prompt does? A network that no longer reads its prompt is right
  in half of the pairs, whatever it likes to say. That is why this is no rank: a liking for common answers raises it.
- *responds* (decides): do quantized layers still carry clean input? The share of the lost answers that return if all
  but the last layer are full precision's. From which layer on half of them return is said beside it.
- *alone*: is each layer by itself good enough? One layer quantized, all others in full precision: the share of known
  answers that survive, in the worst layer.
- *inherited*: where attention or FFN fail in place (cosine of their output below one half), do they fail on clean
  input too? 0: all of it is inherited from below; 1: it is their own.
- *repair*: does source protection, the paper's repair without training, bring answers back? Its first two layers in
  full precision, as in the chapter on repair.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

YES, NO, NOT_ASKED = "yes", "no", "not asked"


@dataclass(frozen=True)
class Question:
    """One question of cause.

    `held_to`: from this value on the answer is `above`, else `below`. `decides`: the mode follows from it. `control`:
    what its control is, in words.
    """

    name: str
    asks: str
    held_to: float
    why: str
    control: str
    decides: bool = False
    above: str = YES
    below: str = NO


QUESTIONS = (
    Question(
        "forms", "Does the answer still form?", 0.75, "half-way from chance, one half, to certainty",
        "full precision", True,
    ),
    Question(
        "responds", "Does the last quantized layer, fed cleanly, give the answer?", 0.5, "half of what was lost",
        "with another fact's stream", True,
    ),
    Question(
        "alone", "Is every layer by itself good enough?", 0.5, "half of the answers", "with no layer quantized",
    ),
    Question(
        "inherited", "Is the failure of components their own?", 0.5, "half of those that fail",
        "beside another prompt", False, "own", "inherited",
    ),
    Question(
        "repair", "Do the first two layers in full precision bring answers back?", 0.34,
        "half-way from the paper's 68% at 4 bits to none at 2", "the last two layers",
    ),
)  # fmt: skip

BY_NAME = {question.name: question for question in QUESTIONS}


def answers(table: pd.DataFrame) -> pd.DataFrame:
    """The questions as they are answered.

    Args:
        table: from `causes.ask`: signal (the question), value, low, high, n, control, note; rows with a layer are left
            out.

    Returns:
        question, asks, value, low, high, n, control, held_to, decides, answer, sure (both ends of the interval give
        the same answer), note.
    """
    rows = []
    for row in table[table["layer"].isna()].itertuples():
        question = BY_NAME[row.signal]
        low, middle, high = (_answer(question, value) for value in (row.low, row.value, row.high))
        rows.append(
            {
                "question": row.signal, "asks": question.asks, "value": row.value, "low": row.low, "high": row.high,
                "n": row.n, "control": row.control, "held_to": question.held_to, "decides": question.decides,
                "answer": middle, "sure": low == middle == high, "note": row.note,
            }
        )  # fmt: skip
    columns = [
        "question",
        "asks",
        "value",
        "low",
        "high",
        "n",
        "control",
        "held_to",
        "decides",
        "answer",
        "sure",
        "note",
    ]
    return pd.DataFrame(rows, columns=columns)


def mode_of(answered: pd.DataFrame) -> str:
    """The mode that follows from the deciding answers, of a model that is not intact.

    *Signal degradation*: at least one yes and no no. *Computation collapse*: both no. *Mixed*: anything else; the two
    kinds of it are told apart by which question got the no.
    """
    given = set(answered.loc[answered["decides"] & (answered["answer"] != NOT_ASKED), "answer"])
    asked = int((answered["decides"] & (answered["answer"] != NOT_ASKED)).sum())
    if given == {YES}:
        return "signal degradation"
    if given == {NO} and asked == 2:
        return "computation collapse"
    return "mixed"


def _answer(question: Question, value: float) -> str:
    if np.isnan(value):
        return NOT_ASKED
    return question.above if value >= question.held_to else question.below
