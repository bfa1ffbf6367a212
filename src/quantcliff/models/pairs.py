"""Two models side by side: whether they are a pair, and one made of parts of both."""

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import PreTrainedTokenizerBase

from quantcliff.errors import InputError
from quantcliff.models.linears import place
from quantcliff.models.loading import Model
from quantcliff.models.served import Served

PROBE_TEXT = "Rome, the river Thames & 1984: Ça va? Über 東京 \u0645\u0631\u062d\u0628\u0627 \t x_1 = 2.5e-3;"


def check_pair(base: Model, quantized: Model) -> None:
    """Check that two models differ in nothing but the values of their weights.

    Raises:
        InputError: architecture, vocabulary, shapes or tokenizer differ.
    """
    pair = f"{base.name} and {quantized.name} are not a pair"
    if type(base.hf) is not type(quantized.hf):
        raise InputError(f"{pair}: one is a {type(base.hf).__name__}, the other a {type(quantized.hf).__name__}")
    sizes = base.hf.config.vocab_size, quantized.hf.config.vocab_size
    if sizes[0] != sizes[1]:
        raise InputError(f"{pair}: their vocabularies have {sizes[0]} and {sizes[1]} tokens")
    shapes = [{name: tuple(w.shape) for name, w in model.hf.state_dict().items()} for model in (base, quantized)]
    for name in [*shapes[0], *shapes[1]]:
        first, second = (shape.get(name, "nothing") for shape in shapes)
        if first != second:
            raise InputError(f"{pair}: {place(name)} has shape {first} in one and {second} in the other")
    one, other = base.tokenizer, quantized.tokenizer
    made = other.init_kwargs.get("made_from_gguf")  # prompts are split by the base's; only the words must be the same
    if not _same_words(one, other) or (not made and one(PROBE_TEXT).input_ids != other(PROBE_TEXT).input_ids):
        raise InputError(f"{pair}: their tokenizers differ, so the same prompt would be two different inputs")


def _same_words(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two vocabularies are the same, but for special tokens that one of them has more: padding, say."""
    mine, theirs = one.get_vocab(), other.get_vocab()
    if any(theirs[token] != number for token, number in mine.items() if token in theirs):
        return False
    return set(mine) - set(theirs) <= set(one.get_added_vocab()) and set(theirs) - set(mine) <= set(
        other.get_added_vocab()
    )


def twin(model: Model, name: str | None = None) -> Model:
    """The same model once more, on the same weights in memory: its modules may be wrapped and exchanged freely, its
    weights may be read; copy them (`copy.deepcopy(model.hf)`) before you change any."""
    shared = {id(tensor): tensor for tensor in [*model.hf.parameters(), *model.hf.buffers()]}
    return replace(model, hf=copy.deepcopy(model.hf, shared), name=name or model.name)


def serve(model: Model, served: Served | None) -> Model:
    """The same model; whoever runs it (`tracing.Runner`) quantizes what `served` says. None changes nothing."""
    if served is None:
        return model
    content = json.dumps([model.digest, served.content], sort_keys=True)
    return replace(model, served=served, digest=hashlib.sha256(content.encode()).hexdigest()[:16])


def splice(base: Model, other: Model, take: Callable[[str], bool]) -> Model:
    """A new model with the weights of `base`, except those whose parameter name `take` accepts, which are `other`'s.

    GPTQ works layer by layer, so taking the first k layers equals quantizing only those; a later layer taken alone was
    calibrated on quantized input.

    Raises:
        InputError: the two are not a pair.
    """
    check_pair(base, other)
    source = dict(other.hf.named_parameters())
    names = [name for name in source if take(name)]
    hf = copy.deepcopy(base.hf)
    target = dict(hf.named_parameters())
    with torch.no_grad():
        for name in names:
            target[name].copy_(source[name])
    digest = hashlib.sha256("\n".join([base.digest, other.digest, *names]).encode()).hexdigest()[:16]
    return Model(hf, base.tokenizer, f"{base.name}+{other.name}", digest)
