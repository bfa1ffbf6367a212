"""The matrices of a model that a quantizer may round: linear layers, and the experts of a mixture, one by one."""

from collections.abc import Iterator

from torch import Tensor
from transformers import PreTrainedModel

from quantcliff.models import linears, stacks


def matrices(hf: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """(name, weights) of every linear layer in the decoder, then of every expert that is part of a stacked parameter.

    A linear layer has its module's name; the third of the experts stacked in `...mlp.experts.down_proj` is called
    `...mlp.experts.down_proj.2`.
    """
    parameters = dict(hf.named_parameters())
    for name in linears(hf.config):
        yield name, parameters[f"{name}.weight"].detach()
    for name, parameter in stacks(hf).items():
        for number, matrix in enumerate(parameter.detach()):
            yield f"{name}.{number}", matrix
