"""The page says what an architecture keeps from being measured."""

import pytest
from families import wrapped

from quantcliff.diagnosis import pair
from quantcliff.tracing import Runner

ATTENTION = "Attention is measured in the 1 of 3 layers that have it."


@pytest.mark.parametrize(("name", "said"), [("llama", ""), ("gpt2", ""), ("mixtral", ""), ("lfm2", ATTENTION)])
def test_what_is_not_measured_is_said(name: str, said: str) -> None:
    assert pair._not_measured(Runner(wrapped(name))) == said


def test_layers_whose_experts_cannot_be_read_are_counted(monkeypatch) -> None:
    monkeypatch.setattr(pair.experts, "stacked", lambda runner: {0: object()})
    found = pair._not_measured(Runner(wrapped("mixtral")))
    assert found == "The experts of 2 of 3 layers cannot be read, so they are not compared."
