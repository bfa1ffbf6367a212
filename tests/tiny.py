"""What tiny models are made of: sizes, a tokenizer, sentences, random prompts."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from quantcliff.probes import Probes

TEXT = [
    "Rome is the capital of Italy.", "Paris is the capital of France.", "Ada Lovelace was born in London.",
    "The river Thames flows through London.", "Water boils at one hundred degrees.", "Nobody knows the answer.",
]  # fmt: skip


def tiny_tokenizer(vocab: int = 320) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT * 10, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>", pad_token="<s>")


SIZES = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
         "intermediate_size": 64, "max_position_embeddings": 128}  # fmt: skip


def save(model: torch.nn.Module, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def random_probes(n: int = 12, seed: int = 0) -> Probes:
    draw = np.random.default_rng(seed)
    ids = [[0, *draw.integers(1, 320, size).tolist()] for size in draw.integers(3, 9, n)]
    answers = [draw.integers(1, 320, count).tolist() for count in draw.integers(1, 3, n)]
    columns = ["fact", "relation", "subject", "object", "prompt"]
    table = pd.DataFrame({name: [f"{name} {row}" for row in range(n)] for name in columns})
    return Probes(ids, answers, np.full((n, 2), -1), table, pd.DataFrame())
