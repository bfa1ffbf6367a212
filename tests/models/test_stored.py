"""Files that are not what they claim to be are named before anything is loaded."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.models.stored import precision_of, shapes_of
from quantcliff.quantizers import Scheme, export, quantize

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 6832328\n"


@pytest.fixture(scope="module")
def made(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 bits, asymmetric, groups of 16."""
    return quantize(tiny_llama, Scheme("rtn", 4, 16), (), tmp_path_factory.mktemp("quantized"))


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def state(folder: Path, **more: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    for group in config["quantization_config"]["config_groups"].values():
        group["weights"] |= more
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"group_size": 32}, r"down_proj has 4 scales a row, and 4 bits in groups of 32 .* need 2"),
        ({"num_bits": 8}, r"8 bits in groups of 16"),
        ({"actorder": "group"}, "no weight_g_idx"),
    ],
)
def test_a_configuration_that_the_tensors_contradict(copied: Path, more: dict, said: str) -> None:
    models.load(copied)
    state(copied, **more)
    with pytest.raises(InputError, match=f"contradicts its own config.json: .*{said}"):
        models.load(copied)


@pytest.mark.parametrize(
    ("part", "said"), [("weight_scale", "no weight_scale"), ("weight_zero_point", "is asymmetric")]
)
def test_a_tensor_that_is_missing(copied: Path, part: str, said: str) -> None:
    tensors = load_file(copied / "model.safetensors")
    del tensors[f"model.layers.1.mlp.up_proj.{part}"]
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=said):
        models.load(copied)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("size", [16, -1])
def test_what_a_quantizer_writes_is_not_contradicted(
    tiny_llama: Path, tmp_path: Path, bits: int, symmetric: bool, size: int
) -> None:
    models.load(quantize(tiny_llama, Scheme("rtn", bits, size, symmetric), (), tmp_path))


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_git_lfs_pointers(tiny_llama: Path, copied: Path, tmp_path: Path, file: str) -> None:
    (copied / file).write_text(POINTER)
    for use in (models.load, models.config_of, lambda folder: export(folder, Scheme("rtn", 4, 16), [], tmp_path / "q")):
        with pytest.raises(InputError, match="is a Git LFS pointer"):
            use(copied)


def test_headers_tell_shapes_and_precision(tiny_llama: Path, copied: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny_llama / "model.safetensors")
    assert shapes_of(tiny_llama) == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert precision_of(tiny_llama) == 0.0
    half = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_file(half, tmp_path / "model.safetensors")
    assert precision_of(tmp_path) == 2**-9
    (tmp_path / "broken.safetensors").write_bytes(b"nothing here")
    assert shapes_of(tmp_path) == shapes_of(tiny_llama)
