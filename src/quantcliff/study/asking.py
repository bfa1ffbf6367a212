"""One question asked of one model: which facts, which quantized variants.

Every chapter and the command line start from a `Study`. Nothing is loaded or quantized before it is needed, and what
was once computed is read back: quantized checkpoints, activations of the full-precision model and stage tables all lie
in the run folder under names made of their content.
"""

from collections.abc import Sequence
from pathlib import Path

from quantcliff import models, quantizers
from quantcliff.errors import InputError
from quantcliff.probes import recall
from quantcliff.study.answers import Answers
from quantcliff.study.parameters import Parameters


class Study(Answers):
    """Facts, a full-precision model and its quantized variants.

    Args:
        model: "atlas", "smollm2" or the folder of a full-precision model.
        quantized: folder of a quantized model of the reader's own; replaces `method`, `bits` and `group_size`.
        method: "gptq", "awq", "rtn", "autoround", or several: "gptq,awq" or a list.
        bits: 4, or several: "4,3,2" or a list.
        group_size: weights that share a scale, -1 for a whole row.
        facts: "atlas", "smollm2", a ParaRel folder, or a .jsonl or .csv file.
        text: text file for the next-token-recall probe, which takes the place of facts.
        n_facts: facts (or positions of the text) to draw.
        device, dtype: where and in which numbers models run.
        seed: decides every random draw.
        run: folder of results.
        calibration: "atlas", "self" (text that the model writes) or a text file, for GPTQ and AWQ.

    Raises:
        InputError: an argument that cannot be used; said before anything long begins.
    """

    def __init__(
        self,
        model: str | Path = "atlas",
        quantized: str | Path | None = None,
        method: str | Sequence[str] = "gptq",
        bits: int | str | Sequence[int] = (4, 3, 2),
        group_size: int | str = 128,
        facts: str | Path = "atlas",
        n_facts: int | str = 4000,
        text: str | Path | None = None,
        device: str = "auto",
        dtype: str = "float32",
        seed: int | str = 0,
        run: str | Path = "runs/atlas",
        calibration: str | Path = "atlas",
    ):
        folder = models.folder_of(model)
        super().__init__(Parameters.parse(
            model=model, quantized=quantized, method=method, bits=bits, group_size=group_size, facts=facts,
            n_facts=n_facts, text=text, device=device, dtype=dtype, seed=seed, run=run, calibration=calibration,
        ))  # fmt: skip
        if models.quantization_of(folder):
            raise InputError(f"{model} is quantized already; give the full-precision model as base")
        _ = recall.documents(self.parameters.text) if self.parameters.text else self.facts
        quantizers.check_calibration(self.parameters.calibration)
        if self.parameters.quantized:
            models.check_pair(self.base, self.model(next(iter(self.variants))))
            return
        config = models.config_of(folder)
        for variant in self.variants.values():
            if variant.scheme:
                quantizers.check(variant.scheme, config)

    @property
    def is_default(self) -> bool:
        """Whether this is the study the book was written about, so that its claims must hold."""
        return self.is_default_but()

    def is_default_but(self, **chapter: object) -> bool:
        """`is_default` for a chapter whose own defaults differ, e.g. `is_default_but(bits="8,4,3,2")`."""
        return self.parameters.are_default_but(**chapter)
