"""In: a checkpoint folder or a GGUF file. Out: a plain, dequantized model, what its files state, pairs of models."""

from quantcliff.models import dequantize
from quantcliff.models.as_served import served_of
from quantcliff.models.columns import column_order
from quantcliff.models.folders import config_of, digest_of, folder_of, named, quantization_of, stated_of
from quantcliff.models.levels import grid_of, infer, lies_on
from quantcliff.models.linears import (
    LAYER,
    has_stacked_experts,
    layer_of,
    linears,
    place,
    sideways,
    stacks,
    turn_back,
)
from quantcliff.models.loading import (
    DTYPES,
    Model,
    check_device,
    check_dtype,
    default_device,
    load,
    pretrained,
    tokenizer_of,
)
from quantcliff.models.pairs import check_pair, serve, splice, twin
from quantcliff.models.served import Served, by_tensor, by_token, in_groups

__all__ = [
    "DTYPES",
    "LAYER",
    "Model",
    "Served",
    "by_tensor",
    "by_token",
    "check_device",
    "check_dtype",
    "check_pair",
    "column_order",
    "config_of",
    "default_device",
    "dequantize",
    "digest_of",
    "folder_of",
    "grid_of",
    "has_stacked_experts",
    "in_groups",
    "infer",
    "layer_of",
    "lies_on",
    "linears",
    "load",
    "named",
    "place",
    "pretrained",
    "quantization_of",
    "serve",
    "served_of",
    "sideways",
    "splice",
    "stacks",
    "stated_of",
    "tokenizer_of",
    "turn_back",
    "twin",
]
