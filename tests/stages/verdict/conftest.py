"""A random model that is sure of what it says beside itself in 2 bits: what the verdict's tests measure on."""

from functools import partial
from pathlib import Path

import pytest
from loud import louder, random_text

from quantcliff.quantizers import Scheme, quantize
from quantcliff.stages import components
from quantcliff.stages.verdict import Pair
from quantcliff.study import FULL, Study

GROUP = 32


@pytest.fixture(scope="module")
def base(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return louder(tiny_llama, tmp_path_factory.mktemp("sure"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def quantized(base: Path, tmp_path_factory: pytest.TempPathFactory):
    """Makes checkpoints of the given bits."""
    cache = tmp_path_factory.mktemp("quantized")
    return lambda bits: quantize(base, Scheme("rtn", bits, GROUP), (), cache)


@pytest.fixture(scope="module")
def pair(base: Path, text: Path, quantized, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    study = Study(base, quantized=quantized(2), text=text, n_facts=80, run=tmp_path_factory.mktemp("run"))
    label = next(iter(study.variants))
    return Pair(study, label, 40, partial(components.of_variant, study, FULL, 40))
