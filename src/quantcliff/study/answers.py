"""What the models of a study answer: prompts, scores, the facts that full precision knows, and tables over variants."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32
from tqdm import tqdm

from quantcliff.errors import InputError
from quantcliff.probes import Facts, Probes, facts, recall
from quantcliff.study import together
from quantcliff.study.held import VARIANTS_HELD, Held
from quantcliff.study.shelf import Shelf
from quantcliff.study.variants import FULL, REFERENCE_BITS
from quantcliff.tracing import Positions, Trace, score, score_streams

INSIDE = 800
"""Known facts whose activations are looked at; answers are counted over all of them."""


MODELS_OF_A_PROCESS = VARIANTS_HELD + 3
"""Models, by their bytes, that a process which measures variants may hold: while one is quantized, two more."""


class Answers(Held):
    """Prompts, and what comes of asking them; every table is kept as soon as it is there."""

    @cached_property
    def facts(self) -> Facts:
        """The facts that are asked."""
        return facts.load(self.parameters.facts, n_facts=self.parameters.n_facts, seed=self.seed)

    @cached_property
    def probes(self) -> Probes:
        """All prompts, whether or not full precision answers them."""
        if self.parameters.text:
            return recall.recall(self.base, self.parameters.text, n=self.parameters.n_facts, seed=self.seed)
        return facts.probe(self.facts, self.base.tokenizer)

    def scores(self, label: str) -> pd.DataFrame:
        """`trace.score` of all probes by "full" or a variant, with `kl` from full precision; computed once."""
        return self._stored("scores", label, self._score, None)

    def _score(self, label: str) -> pd.DataFrame:
        stream, head = self.last_streams(FULL)[:, -1], self.runner(FULL).unembed
        if label == FULL:
            return score_streams(self.runner(FULL), stream, self.probes.answers).assign(kl=0.0)

        def reference(prompts: np.ndarray) -> torch.Tensor:
            return head(torch.from_numpy(stream[prompts]))

        if len(self.probes) > INSIDE:
            return score(self.runner(label), self.probes, reference)
        return score_streams(self.runner(label), self.last_streams(label)[:, -1], self.probes.answers, reference)

    @cached_property
    def known(self) -> Probes:
        """The probes that full precision answers right; robust and failure facts are among them.

        Raises:
            InputError: there is none.
        """
        right = (self.scores(FULL)["rank"] == 1).to_numpy()
        if not right.any():
            raise InputError(f"{self.base.name} answers none of {len(right)} facts, so nothing can be lost: give other "
                             "facts, or a text file for the next-token-recall probe")  # fmt: skip
        return self.probes.select(right)

    def known_scores(self, label: str) -> pd.DataFrame:
        """The rows of `scores` that belong to `known`: row i <-> known prompt i."""
        return self.scores(label)[self.scores(FULL)["rank"] == 1].reset_index(drop=True)

    @cached_property
    def groups(self) -> pd.DataFrame:
        """`groups_of` the first method."""
        return self.groups_of(next(iter(self.references)))

    def groups_of(self, method: str) -> pd.DataFrame:
        """One row per probe, three flags: known (full precision right), robust (and the reference right), failure
        (and the reference wrong). The rows with `known` are those of `Study.known`, in its order.
        """
        known = self.scores(FULL)["rank"] == 1
        right = self.scores(self.references[method].label)["rank"] == 1
        return pd.DataFrame({"known": known, "robust": known & right, "failure": known & ~right})

    @cached_property
    def inside(self) -> Probes:
        """The known probes, at most `INSIDE`, evenly drawn, on which stages look at activations: one set for all, so
        that full precision is recorded once.
        """
        return self.known.draw(INSIDE, self.seed)

    def sample(self, n: int) -> Probes:
        """`Probes.draw` of `inside`, for what costs much per prompt."""
        return self.inside.draw(n, self.seed)

    def trace(
        self, *kinds: str, positions: Positions = "all", probes: Probes | None = None, label: str = FULL
    ) -> Trace:
        """Activations of full precision, or a variant, on `inside` or other probes: recorded once, for all stages."""
        asked = self.inside if probes is None else probes
        return Trace.record(self.runner(label), asked, kinds, positions, self.run / "trace")

    def last_streams(self, label: str, probes: Probes | None = None) -> Float32[np.ndarray, "n layer d_model"]:
        """Residual stream after every layer at each prompt's last token, of all probes or some.

        Full precision is recorded on all probes at once, a variant where they are no more than `INSIDE`; what is asked
        of some of these prompts is then read from that.
        """
        asked = self.probes if probes is None else probes
        wide = label == FULL or len(self.probes) <= INSIDE
        places = self._places(asked) if wide else None
        whole = asked if places is None else self.probes
        stream = self.trace("resid_post", positions="last", probes=whole, label=label)["resid_post"]
        return stream if probes is None or places is None else stream[places]

    def _places(self, probes: Probes) -> list[int] | None:
        """Where these prompts stand among all probes; None where some of them are not there."""
        place = {tuple(ids): number for number, ids in enumerate(self.probes.input_ids)}
        found = [place.get(tuple(ids), -1) for ids in probes.input_ids]
        return None if -1 in found else found

    def table(
        self, stage: str, compute: Callable[[str], pd.DataFrame], labels: Iterable[str] | None = None, **key: object
    ) -> pd.DataFrame:
        """A stage's table over variants, each computed once and kept as soon as it is done; several at once on a CPU.

        Args:
            stage: name of the stage; parts go to RUN/stage/, the whole to RUN/stage.parquet.
            compute: from a label to its rows; the columns variant, method, bits and group_size are put in front.
            labels: of variants, or "full"; None for all variants.
            key: parameters of the stage that the result depends on, beside models, probes and package source.
        """
        labels = list(self.variants if labels is None else labels)

        def part(label: str) -> pd.DataFrame:
            return self._stored(stage, label, compute, key)

        shelf = Shelf(self.run)
        missing = [label for label in labels if not shelf.place(stage, label, self._content(label, key)).is_file()]
        self._several(stage, missing, part)
        return shelf.whole(stage, [part(label) for label in tqdm(labels, desc=stage, leave=False, disable=None)])

    def _several(self, stage: str, labels: Sequence[str], work: Callable[[str], object]) -> None:
        """Do work for labels several at a time, where that is faster; what all share is made with the first. Whatever
        is not done then is left to be done one by one.
        """
        count = together.workers(len(labels) - 1, MODELS_OF_A_PROCESS * self.base.hf.get_memory_footprint())
        if not count or self.base.hf.device.type != "cpu":
            return
        shared = {FULL, *(reference.label for reference in self.references.values())}
        first, *rest = sorted(labels, key=lambda label: label not in shared)
        with tqdm(total=len(labels), desc=stage, leave=False, disable=None) as bar:
            work(first)
            bar.update()
            for _ in together.together(work, rest, count):
                bar.update()

    def _stored(
        self, stage: str, label: str, compute: Callable[[str], pd.DataFrame], key: dict[str, object] | None
    ) -> pd.DataFrame:
        def rows() -> pd.DataFrame:
            found, columns = compute(label), self._columns(label)
            found = found.drop(columns=list(columns), errors="ignore")
            return pd.concat([pd.DataFrame(columns, index=found.index), found], axis=1)

        return Shelf(self.run).kept(stage, label, self._content(label, key), rows)

    def _columns(self, label: str) -> dict[str, object]:
        if label == FULL:
            bits = 8 * self.base.hf.dtype.itemsize
            return {"variant": FULL, "method": FULL, "bits": bits, "group_size": -1}
        variant = self.variant(label)
        return {"variant": label, "method": variant.method, "bits": variant.bits, "group_size": variant.group_size}

    def _content(self, label: str, key: dict[str, object] | None) -> list[object]:
        """All that a variant's table may depend on; with no key, not the reference variants."""
        asked = self.parameters
        references = None if asked.quantized or key is None else [REFERENCE_BITS, asked.methods]
        which = self._made.content(label)
        return [self.base.digest, which, references, self.probes.digest, asked.dtype, self.seed, key]
