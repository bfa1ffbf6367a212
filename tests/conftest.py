"""Signatures are checked at run time; tiny random models stand in for real ones.

Tests run in several processes at once (pytest-xdist): each is given its share of the cores, and so is what it starts.
"""

import os

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from jaxtyping import install_import_hook

install_import_hook("quantcliff", "beartype.beartype")

from quantcliff import waiting  # noqa: E402

waiting.choose()

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from tiny import SIZES, save  # noqa: E402
from transformers import (  # noqa: E402
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from quantcliff.study import together  # noqa: E402

settings.register_profile("patient", deadline=None)  # a first call compiles signatures; machines may be busy
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def one_variant_at_a_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test puts in the place of something, or counts, is seen in this process alone, however many cores."""
    if request.path.name != "test_together.py":
        monkeypatch.setattr(together, "workers", lambda labels, weights: 0)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama: 3 layers, width 32, 4 heads with 2 key-value heads, FFN 64, vocabulary 320."""
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, num_key_value_heads=2, bos_token_id=0, eos_token_id=0, initializer_range=0.2)
    return save(LlamaForCausalLM(config), tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Gemma 2 (soft-capped logits, tied embeddings), sized like `tiny_llama`."""
    torch.manual_seed(1)
    config = Gemma2Config(
        **SIZES, num_key_value_heads=2, head_dim=8, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        initializer_range=0.2, query_pre_attn_scalar=8,
    )  # fmt: skip
    return save(Gemma2ForCausalLM(config), tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="session")
def tiny_neox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random GPT-NeoX: no gate in its FFN, parallel attention; sized like `tiny_llama`."""
    torch.manual_seed(2)
    config = GPTNeoXConfig(**SIZES, bos_token_id=0, eos_token_id=0, initializer_range=0.2)
    return save(GPTNeoXForCausalLM(config), tmp_path_factory.mktemp("neox"))
