"""What plain rounding costs each matrix of a model, beside what it costs a Gaussian matrix of the same shape.

Weights that were quantized before lie on an old grid; where a new grid falls on it, rounding is cheaper than it would
be for weights that never were, and a bit width looks better than it is. A ratio near 1 says that the old grid does not
matter.
"""

import copy
from dataclasses import replace

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from quantcliff.models import Model, layer_of, linears
from quantcliff.quantizers.scheme import Scheme


def rounded(weight: Float[Tensor, "out in"], scheme: Scheme) -> Float[Tensor, "out in"]:
    """The matrix as a round-to-nearest checkpoint holds it; of the scheme bits, group_size and symmetric count."""
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    size = weight.shape[1] if scheme.group_size == -1 else scheme.group_size
    groups = weight.unflatten(1, (-1, size))
    args = QuantizationArgs(num_bits=scheme.bits, symmetric=scheme.symmetric, strategy="group", group_size=size)
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    return fake_quantize(weight, scale, zero, args)


def rounded_model(model: Model, scheme: Scheme) -> Model:
    """A copy with every linear layer of its decoder rounded to nearest; of the scheme bits, group_size, symmetric."""
    copied = replace(model, hf=copy.deepcopy(model.hf), name=f"{model.name}, {scheme.label}")
    for name in linears(model.hf.config):
        weight = copied.hf.get_submodule(name).weight
        weight.data.copy_(rounded(weight.data.float(), scheme))
    return copied


def relative_error(weight: Float[Tensor, "out in"], scheme: Scheme) -> float:
    """||round(W) - W|| / ||W||, Frobenius norms."""
    return float((rounded(weight, scheme) - weight).norm() / weight.norm())


def errors(model: Model, scheme: Scheme, seed: int = 0) -> pd.DataFrame:
    """One row per linear layer: layer, module, error (`relative_error`), gaussian (that of a random matrix), ratio.

    Args:
        scheme: bits, group_size and symmetric; the method is plain rounding.
        seed: of the random matrices.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(model.hf.named_parameters())
    rows = []
    for name, shape in tqdm(linears(model.hf.config).items(), desc="rounding", leave=False, disable=None):
        weight = parameters[f"{name}.weight"].detach().float().cpu()
        own = relative_error(weight, scheme)
        gaussian = relative_error(torch.randn(shape, generator=generator), scheme)
        module = name.split(f".{layer_of(name)}.", 1)[1]
        rows.append({"layer": layer_of(name), "module": module, "error": own, "gaussian": gaussian})
    return pd.DataFrame(rows).assign(ratio=lambda table: table["error"] / table["gaussian"])
