"""The page says what an architecture keeps from being measured."""

import pytest
from families import wrapped

from quantcliff.diagnosis import pair
from quantcliff.tracing import Runner

EXPERTS = "Each token visits a few experts of many, so their gates and neurons are not compared."
ATTENTION = "Attention is measured in the 1 of 3 layers that have it."


@pytest.mark.parametrize(("name", "said"), [("llama", ""), ("gpt2", ""), ("mixtral", EXPERTS), ("lfm2", ATTENTION)])
def test_what_is_not_measured_is_said(name: str, said: str) -> None:
    assert pair._not_measured(Runner(wrapped(name))) == said
